"""The Lua files and their declarations in `store/scripts.py` agree, and every file has a use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docket.store.scripts import ALL, Script, through_the_door
from tests.guards.tree import REPOSITORY

FOLDER = REPOSITORY / "tasks_sdk/docket/store/lua"
BINDING = re.compile(r"^local (\w+) = (?:tonumber\()?(KEYS|ARGV)\[(\d+)\]\)?(?: == .+)?$")
INCLUDE = re.compile(r"^\s*--\s*@(?:include|later)\b(.*)$")
WELL_FORMED_INCLUDE = re.compile(r'^--@(include|later) "(\w+)"$')
EXPORTS = re.compile(r"^--@exports (\w+(?:, \w+)*)$", re.MULTILINE)


def lua_contracts(folder: Path, scripts: tuple[Script, ...]) -> list[str]:
    files = {path.stem: path.read_text() for path in sorted(folder.glob("*.lua"))}
    declared = {script.name: script for script in scripts}
    found: list[str] = []
    if len(declared) != len(scripts):
        found.append("two scripts of one name are declared")
    for name in sorted(declared.keys() - files.keys()):
        found.append(f"{name} is declared, but there is no {name}.lua")
    included: set[str] = set()
    for name, text in files.items():
        if not text.startswith("-- "):
            found.append(f"{name}.lua does not begin with a comment")
        for line_number, line in enumerate(text.splitlines(), 1):
            if INCLUDE.match(line):
                match = WELL_FORMED_INCLUDE.match(line)
                if match is None or match[2] not in files:
                    found.append(f"{name}.lua:{line_number}: cannot resolve {line.strip()}")
                elif not match[2].startswith("_"):
                    found.append(f"{name}.lua:{line_number}: only fragments are included, not {match[2]}")
                else:
                    included.add(match[2])
                    found += _what_is_no_export(match[2], files[match[2]], later=match[1] == "later")
        if not name.startswith("_"):
            found += [f"{name}.lua {problem}" for problem in _problems(text, declared.get(name))]
    for name in sorted(files):
        if name.startswith("_") and name not in included:
            found.append(f"{name}.lua is included nowhere")
    return found


def _what_is_no_export(fragment: str, text: str, *, later: bool) -> list[str]:
    exported = EXPORTS.search(text)
    if (exported is not None) != later:
        return [
            f"{fragment}.lua exports, but is not put in later"
            if exported
            else f"{fragment}.lua exports nothing"
        ]
    names = exported[1].split(", ") if exported else []
    return [f"{fragment}.lua has no {name}" for name in names if f"local function {name}(" not in text]


def _problems(text: str, script: Script | None) -> list[str]:
    if script is None:
        return ["is not declared in scripts.py"]
    bound = _header(text)
    expected = [("stream_key", "KEYS", 1), ("prefix", "ARGV", 1)]
    expected += [(argument, "ARGV", place) for place, argument in enumerate(script.arguments, 2)]
    problems: list[str] = []
    if "→" not in "\n".join(_first_comment(text)) and ":" not in _first_comment(text)[0]:
        problems.append("does not say from which state to which it leads")
    for wanted, actual in zip(expected, bound, strict=False):
        if wanted != actual:
            problems.append(f"binds {_shown(actual)} where {_shown(wanted)} is declared")
            break
    else:
        for missing in expected[len(bound) :]:
            problems.append(f"does not bind {_shown(missing)}")
        for extra in bound[len(expected) :]:
            problems.append(f"binds {_shown(extra)}, which is not declared")
    return problems


def _first_comment(text: str) -> list[str]:
    lines: list[str] = []
    for line in text.splitlines():
        if not line.startswith("--") or line.startswith("--@"):
            break
        lines.append(line)
    return lines or [""]


def _header(text: str) -> list[tuple[str, str, int]]:
    """The names bound to KEYS and ARGV before anything else is done."""
    bound: list[tuple[str, str, int]] = []
    for line in text.splitlines()[len(_first_comment(text)) :]:
        match = BINDING.match(line)
        if match is not None:
            bound.append((match[1], match[2], int(match[3])))
        elif not line.startswith("local stride = "):
            break
    return bound


def _shown(binding: tuple[str, str, int]) -> str:
    name, table, place = binding
    return f"{name} = {table}[{place}]"


def test_headers_and_declarations_agree():
    assert lua_contracts(FOLDER, ALL) == []


@pytest.mark.parametrize("script", ALL, ids=lambda script: script.name)
def test_the_loaded_text_has_everything_put_in(script: Script):
    assert not re.search("^--@(include|later)", script.source, re.MULTILINE)
    assert len(script.sha) == 40


@pytest.mark.parametrize("script", ALL, ids=lambda script: script.name)
def test_repeated_arguments_begin_right_behind_the_named_ones(script: Script):
    """`items` are what a loop over ARGV takes: it must begin where the named arguments end."""
    text = (FOLDER / f"{script.name}.lua").read_text()
    first = 2 + len(script.arguments)
    loops = [
        int(found)
        for found in re.findall(r"for i = (\d+), #ARGV|local next_argument = (\d+)", text)
        for found in found
        if found
    ]
    if script.items:
        assert loops and set(loops) == {first}
    else:
        assert not loops


def test_only_a_name_that_stands_alone_goes_through_the_door():
    text = 'free(a) x.free "free" free_all unfree (free)\nfree'
    expected = 'in_x().free(a) x.free "free" free_all unfree (in_x().free)\nin_x().free'
    assert through_the_door("_x", ["free", "nobody"], text) == expected


FREES_NOTHING = {
    "enlist": "who joins holds nothing yet",
    "retry_dead": "a dead letter holds nothing",
    "figures": "it only looks",
}


@pytest.mark.parametrize("script", ALL, ids=lambda script: script.name)
def test_whoever_can_free_a_permit_looks_at_the_lines(script: Script):
    """Otherwise those that wait for it would wait until the next sweep."""
    if "free_permits(" not in script.source:
        return
    text = (FOLDER / f"{script.name}.lua").read_text()
    assert ("look_at_lines(" in text) == (script.name not in FREES_NOTHING)


@pytest.mark.parametrize("script", ALL, ids=lambda script: script.name)
def test_redis_can_compile_it(script: Script, redis_server):
    import redis

    with redis.Redis(unix_socket_path=redis_server.socket_path) as client:
        assert client.script_load(script.source) == script.sha


GOOD = {
    "_house.lua": "-- The names. Needs: prefix.\nlocal queue = prefix .. ':queue'\n",
    "go.lua": "-- queued → running: it goes\nlocal stream_key = KEYS[1]\nlocal prefix = ARGV[1]\n"
    'local key = ARGV[2]\nlocal most = tonumber(ARGV[3])\n--@include "_house"\nreturn 1\n',
}
GO = Script("go", arguments=("key", "most"))


def _plant(folder: Path, change: str = "", to: str = "") -> Path:
    for name, text in GOOD.items():
        (folder / name).write_text(text.replace(change, to) if change else text)
    return folder


def test_what_agrees_is_fine(tmp_path):
    assert lua_contracts(_plant(tmp_path), (GO,)) == []


@pytest.mark.parametrize(
    ("change", "to", "finding"),
    [
        ("local key = ARGV[2]", "local name = ARGV[2]", "binds name = ARGV[2] where key = ARGV[2]"),
        ("ARGV[3]", "ARGV[4]", "binds most = ARGV[4] where most = ARGV[3]"),
        ("local most = tonumber(ARGV[3])\n", "", "does not bind most = ARGV[3]"),
        ("local stream_key = KEYS[1]\n", "", "binds prefix = ARGV[1] where stream_key = KEYS[1]"),
        ('--@include "_house"\n', "local more = ARGV[4]\n", "binds more = ARGV[4], which is not declared"),
        ('--@include "_house"', '--@include "_hause"', "cannot resolve"),
        ('--@include "_house"', "--@include _house", "cannot resolve"),
        ('--@include "_house"', '--@later "_house"', "exports nothing"),
        ('--@include "_house"', '-- @include "_house"', "cannot resolve"),
        ('--@include "_house"\n', "", "_house.lua is included nowhere"),
        ("-- queued → running: it goes", "-- it goes", "does not say from which state"),
        ("-- queued → running: it goes\n", "", "does not begin with a comment"),
        ('--@include "_house"', '--@include "go"', "only fragments are included"),
    ],
)
def test_a_difference_is_found(change: str, to: str, finding: str, tmp_path: Path):
    found = lua_contracts(_plant(tmp_path, change, to), (GO,))
    assert any(finding in each for each in found), found


def test_undeclared_and_missing_files_are_found(tmp_path: Path):
    assert lua_contracts(_plant(tmp_path), ()) == ["go.lua is not declared in scripts.py"]
    assert lua_contracts(_plant(tmp_path), (GO, Script("gone"))) == [
        "gone is declared, but there is no gone.lua"
    ]
