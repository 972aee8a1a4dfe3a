"""The transitions of the ledger as typed calls; each is one Lua file, and together they are one state machine.

A `Script` names the arguments in the order in which the Lua header binds them; a test compares the two.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

from docket.store.keys import Keys

_PUT_IN = re.compile(r'^--@(include|later) "(\w+)"$', re.MULTILINE)
_NESTED = "--@nested\n"
_EXPORTS = re.compile(r"^--@exports (.+)$", re.MULTILINE)
_COMMENT = re.compile(r"^ *--(?!@).*\n", re.MULTILINE)
_WORD = re.compile(r"\w+")
_BEFORE, _BEHIND = re.compile(r"[\w.]"), re.compile(r'[\w"]')
_NAME_OF_A_KEY = re.compile(r"^local (\w+) = prefix \.\. .*\n", re.MULTILINE)


def source_of(name: str) -> str:
    """The text of a script, its fragments put in, without comments and without the names of keys that it does not use.

    Lua makes each function anew whenever a script is called, and most calls need few. So the functions of a fragment
    that is put in `later` are made when one of those that it exports is called for the first time. And it finds what a
    function uses of the block around it by walking through all that any function uses of that block: so what is
    `nested` stands in a block of its own.
    """
    later: dict[str, str] = {}
    text = _put_together(name, later)
    for fragment, body in later.items():
        names = _exported(fragment, body)
        text = through_the_door(fragment, names, text)
        later |= {
            other: through_the_door(fragment, names, text)
            for other, text in later.items()
            if other != fragment
        }
    for fragment in later:
        text = text.replace(_place_of(fragment), _door(fragment, later[fragment]))
    before, nested, after = text.partition(_NESTED)
    if nested:
        text = f"{before}return (function()\n{after}\nend)()"
    used = Counter(_WORD.findall(text))
    return _NAME_OF_A_KEY.sub(lambda match: match[0] if used[match[1]] > 1 else "", text)


def _put_together(name: str, later: dict[str, str]) -> str:
    def put_in(match: re.Match[str]) -> str:
        kind, fragment = match.groups()
        if kind == "include":
            return _put_together(fragment, later)
        later[fragment] = _put_together(fragment, later)
        return _place_of(fragment)

    return _PUT_IN.sub(put_in, _text_of(name))


@cache
def _text_of(name: str) -> str:
    """Of one file: most fragments are part of many scripts."""
    text = files("docket.store").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    return _COMMENT.sub("", text)


def _place_of(fragment: str) -> str:
    return f"--@later {fragment}"


def _exported(fragment: str, text: str) -> list[str]:
    found = _EXPORTS.search(text)
    assert found is not None, f"{fragment}.lua exports nothing"
    return found[1].split(", ")


def through_the_door(fragment: str, names: list[str], text: str) -> str:
    """Wherever one of these names stands alone. (A regular expression for them takes ten times as long, and whoever
    carries a script out for the first time waits for all this.)"""
    for name in names:
        text, *rest = text.split(name)
        for after in rest:
            alone = not _BEFORE.match(text[-1:]) and not _BEHIND.match(after)
            text += f"in{fragment}().{name}{after}" if alone else name + after
    return text


def _door(fragment: str, text: str) -> str:
    made = ", ".join(f"{name} = {name}" for name in _exported(fragment, text))
    return (
        f"local made{fragment}\nlocal function in{fragment}()\nif made{fragment} then return made{fragment} end\n"
        f"{text}\nmade{fragment} = {{ {made} }}\nreturn made{fragment}\nend"
    )


MOST_SWEPT = 5
CLEAR_FROM = "c:"


@dataclass(frozen=True)
class Script:
    """One Lua file. `arguments` follow the prefix; `items` names what is repeated behind them."""

    name: str
    arguments: tuple[str, ...] = ()
    items: tuple[str, ...] = ()

    @cached_property
    def source(self) -> str:
        return source_of(self.name)

    @cached_property
    def sha(self) -> str:
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Call:
    """A script with its arguments, ready to be sent. `repeatable`: sending it twice is the same as sending it once."""

    script: Script
    stream: str
    arguments: Sequence[str | bytes | int]
    repeatable: bool = True

    @property
    def by_digest(self) -> tuple[str | bytes | int, ...]:
        """The command that carries it out where Redis knows the script."""
        return ("EVALSHA", self.script.sha, 1, self.stream, *self.arguments)

    @property
    def by_text(self) -> tuple[str | bytes | int, ...]:
        """The same where it does not; it knows it then."""
        return ("EVAL", self.script.source, 1, self.stream, *self.arguments)


SCHEDULE = Script(
    "schedule",
    arguments=("judged_by",),
    items=("verb", "key", "name", "body", "when_us", "ttl_ms", "inside", "request", "limits", "lane"),
)
EXCHANGE = Script(
    "exchange",
    arguments=(
        "worker_id",
        "free",
        "lanes_wanted",
        "promote_most",
        "census_wanted",
        "settled_count",
        "delivered_count",
    ),
    items=("settlements", "deliveries"),
)
ACCEPT = Script("accept", arguments=("worker_id", "since"))
RECOVER = Script("recover", arguments=("worker_id",), items=("held",))
STOPS = Script("stops", items=("entry", "key"))
CANCEL = Script("cancel", arguments=("key", "reason"))
CLEAR = Script("clear", arguments=("request", "cursor", "most"))
ENLIST = Script(
    "enlist",
    arguments=("worker_id", "lease_ms", "host", "process", "slots", "limited_tasks", "all_tasks"),
    items=("task",),
)
RENEW = Script("renew", arguments=("lease_ms",), items=("worker_id",))
HAND_OVER = Script(
    "hand_over", arguments=("worker_id", "cause", "max_crashes", "begun_known"), items=("entry",)
)
EVACUATE = Script("evacuate", arguments=("worker_id",), items=("entry",))
SWEEP = Script("sweep", arguments=("max_crashes", "most", "is_thorough"))
RETRY_DEAD = Script("retry_dead", arguments=("request", "key"))
PURGE_DEAD = Script("purge_dead", arguments=("request", "most"), items=("key",))
STRIKE = Script(
    "strike",
    arguments=("judged_by", "func", "parameter", "operator", "hold", "value"),
    items=("lifted",),
)
STRIKES = Script("strikes")
RELEASE = Script("release", arguments=("most",))
LOOK = Script("look", items=("limit",))
MAXIMUM = Script("maximum", arguments=("request", "name", "most"))
PROGRESS = Script("progress", arguments=("key", "entry", "verb", "value", "request"))
OBSERVE = Script("observe", arguments=("key", "observer", "mark"))
ADVANCE = Script("advance", arguments=("request", "by_us"))
FIGURES = Script("figures")
SPLIT = Script("split", arguments=("partitions",))

ALL = (
    SCHEDULE,
    EXCHANGE,
    ACCEPT,
    RECOVER,
    STOPS,
    CANCEL,
    CLEAR,
    ENLIST,
    RENEW,
    HAND_OVER,
    EVACUATE,
    SWEEP,
    RETRY_DEAD,
    PURGE_DEAD,
    STRIKE,
    STRIKES,
    RELEASE,
    LOOK,
    MAXIMUM,
    PROGRESS,
    OBSERVE,
    ADVANCE,
    FIGURES,
    SPLIT,
)


def prepare_to_add() -> None:
    """The text that an `add` needs is put together: some five milliseconds, for which whoever has a loop that serves
    others would rather wait while the docket opens."""
    _ = SCHEDULE.sha


def prepare() -> None:
    """All texts are put together: some thirty milliseconds, which a loop that turns would rather not be kept for."""
    for script in ALL:
        _ = script.sha  # not an assertion: `python -O` leaves those out


def _request() -> str:
    """Tells one request from others: sent twice because a reply was lost, it takes place once."""
    return os.urandom(8).hex()


Row = tuple[str, str, str, bytes, int | None, int, str, int, str, str]
"""One call that is to be scheduled; `schedule` says what is in it."""


def schedule(
    keys: Keys,
    rows: Iterable[Row],
    judged_by: bytes = b"",
) -> Call:
    """`judged_by`: the version of the strikes that let these calls pass (empty: there are none). Each row: verb (`add`,
    `replace`, or `seed`, which leaves a dead letter of that key where it is), key, name, body, when_us (None: now),
    ttl_ms, entry it is asked from, a number that tells this request from others (sent twice because a reply was lost,
    it takes place once), its limits as far as the caller knows them, and its lane if that is not the main one.

    Replies a row each: `scheduled` or `already`, generation, state, when_us. Or `stale` alone: the rules are
    others now, and nothing was done.
    """
    arguments: list[str | bytes | int] = [keys.prefix, judged_by]
    kept = True
    for verb, key, name, body, when_us, ttl_ms, inside, request, limits, lane in rows:
        arguments += (
            verb,
            key,
            name,
            body,
            "" if when_us is None else when_us,
            ttl_ms,
            inside,
            request,
            limits,
            lane,
        )
        kept = kept and ttl_ms > 0
    return Call(SCHEDULE, keys.stream, arguments, repeatable=kept)


def exchange(
    keys: Keys,
    worker_id: str,
    *,
    free: int,
    lanes: str,
    promote_most: int,
    census: bool,
    settlements: Sequence[tuple[str, str, str, str | bytes | int, str | bytes]],
    deliveries: Sequence[tuple[str, str]],
) -> Call:
    """Settle `(entry, key, outcome, a, b)`, promote, claim `free` from `lanes` and every `(entry, key)` delivered.

    Replies: lapsed, now_us, next due_us or None, whether this worker is the timekeeper, census or None, a verdict for
    each settlement (1 settled, 0 refused, 2 superseded; asked for admission: 3 it may begin, 4 it waits, 10 + the
    number of the limit that refuses it for good), rows of claims, the version of the strikes in effect.
    """
    arguments: list[str | bytes | int] = [
        keys.prefix,
        worker_id,
        free,
        lanes,
        promote_most,
        int(census),
        len(settlements),
        len(deliveries),
    ]
    for settlement in settlements:
        arguments += settlement
    for delivery in deliveries:
        arguments += delivery
    # Sent twice it would claim twice, and the first reply be lost: the worker recovers instead.
    return Call(EXCHANGE, keys.stream, arguments, repeatable=False)


def accept(keys: Keys, worker_id: str, since: str) -> Call:
    """Claims what the read right before it has brought. `since`: an earlier id in the main lane, behind which it
    has given this worker next to nothing else.

    Replies: lapsed, rows of claims, whether more has come behind it, the version of the strikes in effect. The rows may
    lack it: then it is to be claimed in an exchange. If they name another, the reply to an earlier read was lost.
    """
    return Call(ACCEPT, keys.stream, [keys.prefix, worker_id, since], repeatable=False)


def recover(keys: Keys, worker_id: str, held: Iterable[str]) -> Call:
    """Claims what was delivered to this worker and is not among those it holds. Replies: lapsed, rows of claims."""
    return Call(RECOVER, keys.stream, [keys.prefix, worker_id, *held])


def stops(keys: Keys, deliveries: Iterable[tuple[str, str]]) -> Call:
    """Replies those of the `(entry, key)` that have been cancelled."""
    return Call(STOPS, keys.stream, [keys.prefix, *(part for pair in deliveries for part in pair)])


def cancel(keys: Keys, key: str, reason: str = "") -> Call:
    """Replies the state before, or None for an unknown key."""
    return Call(CANCEL, keys.stream, [keys.prefix, key, reason])


def clear(keys: Keys, cursor: str, most: int) -> Call:
    """Replies how many were cancelled and the next cursor (`""`: done). Begin with `CLEAR_FROM`."""
    return Call(CLEAR, keys.stream, [keys.prefix, _request(), cursor, most])


def enlist(
    keys: Keys,
    worker_id: str,
    *,
    lease_ms: int | None,
    host: str,
    process: str,
    concurrency: int,
    tasks: Sequence[str],
    limited: Sequence[str] = (),
    all_tasks: Sequence[str] | None = None,
) -> Call:
    """`tasks`: those that are told of in this call, `limited` those of them that state a limit. `all_tasks`: what
    several calls tell together, with the first of them, and nothing with the others; None: this one tells all.
    `lease_ms` None: it is on the roll already, and has learnt these tasks since.

    Replies how many dead letters went back in line because this worker knows their task, and whether there are more.
    """
    arguments = [keys.prefix, worker_id, "" if lease_ms is None else lease_ms, host, process, concurrency]
    told = tasks if all_tasks is None else all_tasks
    texts = [json.dumps(limited), "" if all_tasks == () else json.dumps(told)]
    return Call(ENLIST, keys.stream, [*arguments, *texts, *tasks])


def renew(keys: Keys, worker_ids: Iterable[str], lease_ms: int) -> Call:
    """Replies 1 or 0 for each: 0, that worker was struck off and stays so."""
    return Call(RENEW, keys.stream, [keys.prefix, lease_ms, *worker_ids])


def hand_over(
    keys: Keys, worker_id: str, cause: str, *, max_crashes: int, begun: Iterable[str] | None
) -> Call:
    """`begun`: the entries whose body had begun, None: unknown. Replies worker id, returned, suspects, dead keys."""
    known = [] if begun is None else list(begun)
    arguments = [keys.prefix, worker_id, cause, max_crashes, int(begun is not None), *known]
    return Call(HAND_OVER, keys.stream, arguments)


def evacuate(keys: Keys, worker_id: str, begun: Iterable[str]) -> Call:
    """What this worker was given and is not among `begun` goes to others. Replies how many."""
    return Call(EVACUATE, keys.stream, [keys.prefix, worker_id, *begun])


def sweep(keys: Keys, max_crashes: int, *, thorough: bool = True) -> Call:
    """Replies like `hand_over`, a row for each worker whose lease had lapsed: for `MOST_SWEPT` at most. `thorough`:
    what was delivered to nobody, and lines that were forgotten, are looked for as well."""
    return Call(SWEEP, keys.stream, [keys.prefix, max_crashes, MOST_SWEPT, int(thorough)])


def retry_dead(keys: Keys, key: str) -> Call:
    """Replies 1, or 0 if there is no such dead letter or it never was an execution."""
    return Call(RETRY_DEAD, keys.stream, [keys.prefix, _request(), key])


def purge_dead(keys: Keys, dead: Iterable[str] = (), most: int = 0) -> Call:
    """Forget these dead letters, or the `most` oldest. Replies how many went."""
    return Call(PURGE_DEAD, keys.stream, [keys.prefix, _request(), most, *dead])


def release(keys: Keys, most: int) -> Call:
    """So many of those that lifted rules held are in line again. Replies how many went."""
    return Call(RELEASE, keys.stream, [keys.prefix, most])


def look(keys: Keys, limits: Iterable[str]) -> Call:
    """Whoever waits for one of these limits, and may go now, goes."""
    return Call(LOOK, keys.stream, [keys.prefix, *limits])


def maximum(keys: Keys, name: str, most: int | None) -> Call:
    """None: what the code says. Replies what was set before."""
    return Call(MAXIMUM, keys.stream, [keys.prefix, _request(), name, "" if most is None else most])


def progress(keys: Keys, key: str, entry: str, verb: str, value: str | int, request: str) -> Call:
    """`verb`: `total`, `increment`, `message` or `silence`. `entry`: the delivery that reports; empty: an outsider.

    Replies current, total, message and updated_at, or None: that delivery does not run (any more), or keeps nothing.
    """
    return Call(PROGRESS, keys.stream, [keys.prefix, key, entry, verb, value, request])


def observe(keys: Keys, key: str, observer: str, mark: str) -> Call:
    """Replies `live` with the state event and the progress event, or `unkept` or `gone`; with `live`, `mark` is
    published on `keys.marks(observer)` in the same moment."""
    return Call(OBSERVE, keys.stream, [keys.prefix, key, observer, mark])


def advance(keys: Keys, by_us: int) -> Call:
    """Replies how many executions were moved."""
    return Call(ADVANCE, keys.stream, [keys.prefix, _request(), by_us])


def figures(keys: Keys) -> Call:
    """Replies how many are due and not claimed, scheduled, waiting for another of their key, dead letters; and for how
    many microseconds the oldest of the first has been due."""
    return Call(FIGURES, keys.stream, [keys.prefix])


def split(keys: Keys, partitions: int) -> Call:
    """`keys`: those of the docket as a whole. Replies into how many it is split: into so many, if it was unused."""
    return Call(SPLIT, keys.stream, [keys.prefix, partitions])


def strikes(keys: Keys) -> Call:
    """Replies the version of the rules in effect, and their entries."""
    return Call(STRIKES, keys.stream, [keys.prefix])


def strike(
    keys: Keys, judged_by: bytes, lifted: Iterable[str], rule: tuple[str, str, str, str, bytes] | None
) -> Call:
    """The rules `lifted` (their ids) go, and `rule` comes: function, parameter, operator, whether it holds, value.

    Replies the version that is in effect now, or `stale`: it was not `judged_by` any more, and nothing was done.
    """
    added = ("", "", "", "", b"") if rule is None else rule
    return Call(STRIKE, keys.stream, [keys.prefix, judged_by, *added, *lifted])
