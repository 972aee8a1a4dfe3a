"""Task modules are imported from the application's folder, or it is said in full why not."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from docket_supervisor.loading import LoadFailed, find_setup, load, set_up


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Path]:
    before, known = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = before
    for name in set(sys.modules) - known:
        del sys.modules[name]


def failure(app: Path, reference: str) -> str:
    with pytest.raises(LoadFailed) as failed:
        load([reference], str(app))
    return str(failed.value)


def test_a_collection_in_the_applications_folder_is_found(app: Path) -> None:
    (app / "shop_a.py").write_text("def ship(): ...\ntasks = [ship]\n")
    assert load(["shop_a:tasks", "shop_a:tasks"], str(app)) == 2
    assert sys.path[0] == str(app)


def test_a_missing_module_is_named_without_our_own_frames(app: Path) -> None:
    told = failure(app, "no_such_module_x:tasks")
    assert "could not import no_such_module_x (for no_such_module_x:tasks, from " in told
    assert "ModuleNotFoundError: No module named 'no_such_module_x'" in told
    assert "loading.py" not in told and "importlib" not in told


def test_the_traceback_begins_in_the_application(app: Path) -> None:
    (app / "shop_b.py").write_text("import shop_b_inner\n")
    (app / "shop_b_inner.py").write_text("\n1 / 0\n")
    told = failure(app, "shop_b:tasks")
    assert "ZeroDivisionError" in told and "shop_b_inner.py" in told and "loading.py" not in told


@pytest.mark.parametrize("line", ["raise SystemExit(0)", "import sys; sys.exit()", "raise KeyboardInterrupt"])
def test_a_module_that_wants_to_leave_has_failed(app: Path, line: str) -> None:
    (app / "shop_c.py").write_text(f"{line}\n")
    assert "could not import shop_c" in failure(app, "shop_c:tasks")
    sys.modules.pop("shop_c", None)


def test_a_missing_collection_and_a_wrong_one_are_told(app: Path) -> None:
    (app / "shop_d.py").write_text("number = 3\nwords = ['a']\ntext = 'abc'\n")
    assert (
        failure(app, "shop_d:tasks")
        == "could not find shop_d:tasks: module 'shop_d' has no attribute 'tasks'"
    )
    assert failure(app, "shop_d:number") == "expected shop_d:number to be a list of functions, got int"
    assert failure(app, "shop_d:text") == "expected shop_d:text to be a list of functions, got str"
    assert failure(app, "shop_d:words") == "expected shop_d:words to hold functions only, got 'a'"


@pytest.fixture
def setups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "setups_of_a_test.py").write_text(
        "done = []\n"
        "def fine(): done.append(1)\n"
        "def broken(): raise RuntimeError('no exporter')\n"
        "def leaves(): raise SystemExit(4)\n"
        "async def asynchronous(): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "setups_of_a_test"
    sys.modules.pop("setups_of_a_test", None)


def test_no_setup_is_nothing_to_do() -> None:
    set_up(None)
    assert find_setup(None) is None


def test_a_setup_is_called(setups: str) -> None:
    set_up(f"{setups}:fine")
    assert sys.modules[setups].done == [1]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("broken", "RuntimeError: no exporter"),
        ("leaves", "SystemExit: 4"),
        ("asynchronous", "to be a plain function: there is no event loop yet"),
        ("done", "to be a function, got list"),
        ("missing", "could not find setups_of_a_test:missing"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_a_setup_that_cannot_be_done_is_told(setups: str, name: str, sentence: str) -> None:
    with pytest.raises(LoadFailed, match=re.escape(sentence)):
        set_up(f"{setups}:{name}")


def test_a_module_of_a_setup_that_is_missing_is_told() -> None:
    with pytest.raises(LoadFailed, match="could not import no_such_module"):
        find_setup("no_such_module:function")
