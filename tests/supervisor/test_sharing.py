"""What makes processes share the memory of the one that they were forked from."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from typing import Any

import pytest

from docket.settings import DocketSettings
from docket_runtime.settings import WorkerSettings
from docket_supervisor import sharing
from docket_supervisor.immortality import immortalise, is_possible
from docket_supervisor.settings import SupervisorSettings
from tests.supervisor.service import source_path


def told(program: str) -> str:
    """By a process of its own: what is done here is never undone."""
    environment = {**os.environ, "PYTHONPATH": source_path()}
    script = textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(
    not is_possible(), reason="this interpreter knows no immortal objects, or others than we do"
)
def test_what_is_there_is_counted_no_more_and_what_comes_later_is() -> None:
    program = """
        import gc, json, sys
        from docket_supervisor.immortality import immortalise
        class Thing: pass
        here, code, text = Thing(), json.dumps.__code__, "".join(["a", "text"])
        holder = [text]
        assert immortalise() > 5000
        counts = lambda: [sys.getrefcount(each) for each in (here, json.dumps, code, code.co_consts, text, Thing)]
        before = counts()
        held = [(here, json.dumps, code, code.co_consts, text, Thing) for _ in range(1000)]
        later = Thing()
        assert counts() == before and sys.getrefcount(later) < 5
        del held
        gc.collect(); gc.freeze(); gc.unfreeze(); gc.collect()
        assert json.loads(json.dumps({"a": [1, 2.5, None]})) == {"a": [1, 2.5, None]}
        gone = []
        import weakref
        weakref.finalize(later, gone.append, 1)
        del later
        print(gone)
    """
    assert told(program) == "[1]"


@pytest.mark.skipif(is_possible(), reason="here it is possible")
def test_where_nothing_can_be_immortal_nothing_is_done() -> None:
    assert immortalise() == 0


def test_after_the_holes_are_filled_new_objects_lie_side_by_side() -> None:
    program = """
        import json, email.message, http.client
        from docket_supervisor.density import fill_holes
        def spread(size):
            made = [bytes(size) for _ in range(40)]
            return len({id(each) // 4096 for each in made}), made
        holes = [object() for _ in range(200_000)]
        texts = [bytes(100) for _ in range(20_000)]
        del holes[::50], texts[::50]
        before, _ = spread(100)
        assert 0 < fill_holes() < 70_000_000
        after, _ = spread(100)
        print(before > 10, after <= 3)
    """
    assert told(program) == "True True"


@pytest.mark.parametrize("unwanted", [{"share_memory": False}, {"watch": True}])
def test_who_does_not_want_it_or_cannot_wait_for_it_gets_a_plain_template(
    unwanted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(sharing, "immortalise", lambda: done.append("immortal"))
    monkeypatch.setattr(sharing, "fill_holes", lambda: done.append("filled"))
    monkeypatch.setattr(gc, "freeze", lambda: done.append("frozen"))
    settings = SupervisorSettings(
        docket=DocketSettings(), worker=WorkerSettings(tasks=()), processes=1, **unwanted
    )
    sharing.share_memory(settings, "somebody:else")
    assert done == ["frozen"]
    sharing.share_memory(replace(settings, share_memory=True, watch=False), "somebody:else")
    assert done == ["frozen", "filled", "immortal", "frozen"]


def test_a_forked_worker_hardly_touches_what_it_shares() -> None:
    """The bound is far above what is measured (4.1 and 9.6 MiB), and far below what nothing of this would cost."""
    program = """
        import os, time
        from docket.settings import DocketSettings
        from docket_runtime.settings import WorkerSettings
        from docket_supervisor.sampling import weigh
        from docket_supervisor.child import RUN_WORKER
        from docket_supervisor.settings import SupervisorSettings
        from docket_supervisor.template import preload
        preload(RUN_WORKER)
        settings = SupervisorSettings(docket=DocketSettings(), worker=WorkerSettings(tasks=()), processes=1)
        print(weigh(settings, RUN_WORKER).private)
    """
    private = int(told(program)) / 2**20
    assert private < (7 if is_possible() else 12)
