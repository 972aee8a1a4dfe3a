"""What a worker died of, and who is blamed for it."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from docket import clock
from docket_supervisor.autopsy import Finding, examine, size
from docket_supervisor.board import Board, InFlight, Limit
from docket_supervisor.deaths import Death
from docket_supervisor.posts import Post, Role, Sentence
from docket_supervisor.restarts import Restarts

DUMP = (
    'Thread 0x01 (most recent call first):\n  File "/app/tasks.py", line 7 in work\n'
    '  File "/lib/threads.py", line 1 in execution in place 1\n'
    'Thread 0x02 (most recent call first):\n  File "/app/tasks.py", line 9 in blocks\n'
    '  File "/lib/worker.py", line 2 in execution in place 0\n'
)


class Memory:
    """Of out-of-memory kills; each answer is given once."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    def struck(self) -> str:
        return self.answers.pop(0) if self.answers else ""


def running(*, late: bool = False) -> list[InFlight]:
    limit = Limit(clock.monotonic() - 5 if late else clock.monotonic() + 5, 1.0, "retry", 9)
    return [
        InFlight("d:0-0", "on-the-loop", "blocks", 0.0, False, 0),
        InFlight("d:1-0", "in-a-thread", "work", 0.0, True, 1, limit),
    ]


def finding(
    status: int, *, sentence: Sentence | None = None, killed: bool = False, late: bool = False, **more: Any
) -> Finding:
    board = Board(1, 2)
    board.writer(0).phase(more.pop("phase", "working"))
    post = Post(0, board.seats[0], Restarts(1, __import__("datetime").timedelta(1)), Role.WORKER, 0)
    post.sentence, post.killed = sentence, killed
    post.watch.dump = more.pop("watched", "")
    post.watch.private_bytes, post.watch.sampled_at = more.pop("private", 0), clock.monotonic()
    death = Death(1, status, more.pop("peak", 0))
    return examine(post, death, running(late=late), more.pop("oom", Memory()), more.pop("dump", ""))


def blamed(found: Finding) -> list[str]:
    return [each.key for each in found.guilty]


def test_a_crash_is_blamed_on_all_that_ran() -> None:
    found = finding(signal.SIGSEGV, late=True)
    assert (found.label, found.cause) == ("SIGSEGV", "killed by SIGSEGV")
    assert blamed(found) == ["on-the-loop", "in-a-thread"] and found.late == ()
    assert finding(1 << 8).label == "exit-1"
    assert finding(34).label in ("SIGRTMIN", "signal-34")


@pytest.mark.parametrize("code", [0, 7])
def test_who_left_as_told_blames_nobody_but_what_was_late_is_settled(code: int) -> None:
    found = finding(code << 8, phase="left")
    assert blamed(found) == [] and found.late == ()
    assert [each.key for each in finding(code << 8, late=True, phase="left").late] == ["in-a-thread"]


@pytest.mark.parametrize("code", [0, 7])
@pytest.mark.parametrize("phase", ["working", "quiet", "draining"])
def test_an_exit_status_alone_does_not_make_it_one_that_has_left(code: int, phase: str) -> None:
    """Any task can end its process with any."""
    found = finding(code << 8, phase=phase, late=True)
    assert (found.label, blamed(found), found.late) == (f"exit-{code}", ["on-the-loop", "in-a-thread"], ())
    told = finding(code << 8, phase=phase, sentence=Sentence("timeout", "too late"))
    assert (told.label, blamed(told)) == (f"exit-{code}", ["on-the-loop", "in-a-thread"])


def test_a_death_for_want_of_memory_is_told_from_other_kills() -> None:
    found = finding(signal.SIGKILL, oom=Memory("memory.events: oom_kill 0 → 1"))
    assert found.label == "oom"
    assert found.cause == "killed by SIGKILL (out of memory: memory.events: oom_kill 0 → 1)"
    assert blamed(found) == ["on-the-loop", "in-a-thread"]
    assert finding(signal.SIGKILL).label == "SIGKILL"
    assert finding(signal.SIGSEGV, oom=Memory("x")).label == "SIGSEGV"
    ours = finding(signal.SIGKILL, killed=True, sentence=Sentence("hang", "why"), oom=Memory("x"))
    assert ours.label == "hang"


def test_whom_we_kill_is_blamed_on_those_that_the_sentence_names() -> None:
    found = finding(signal.SIGKILL, killed=True, sentence=Sentence("hang", "it hung", ("d:0-0",)))
    assert (found.label, found.cause) == ("hang", "killed by SIGKILL (it hung)")
    assert blamed(found) == ["on-the-loop"] and found.late == ()
    assert blamed(finding(signal.SIGKILL, killed=True)) == []


def test_what_was_late_is_settled_by_its_limit_and_not_blamed() -> None:
    sentence = Sentence("timeout", "too late", ("d:1-0",))
    found = finding(signal.SIGKILL, killed=True, sentence=sentence, late=True)
    assert blamed(found) == [] and [each.key for each in found.late] == ["in-a-thread"]
    gone = finding(7 << 8, sentence=sentence, late=True, phase="left")
    assert (gone.label, gone.cause) == ("timeout", "exited with status 7 (too late)")


def test_memory_and_the_last_stack_are_told() -> None:
    found = finding(signal.SIGSEGV, private=160 << 20, peak=3 << 30, dump=f"Fatal Python error\n\n{DUMP}")
    assert found.memory == "private memory 160.0 MiB 0s before, 3.0 GiB resident at its peak"
    assert str(found) == (
        f"killed by SIGSEGV, {found.memory}\nlast stack, innermost first:\n  /app/tasks.py:7 in work"
    )


def test_of_a_hang_the_stack_of_the_one_that_blocked_is_told() -> None:
    sentence = Sentence("hang", "it hung", ("d:0-0",))
    found = finding(signal.SIGKILL, killed=True, sentence=sentence, watched=DUMP)
    assert found.stack == "  /app/tasks.py:9 in blocks"
    assert finding(signal.SIGKILL, watched=DUMP).stack == "", "an old stack says nothing about a crash"


def test_a_deep_stack_is_cut() -> None:
    deep = "Thread 0x1 (most recent call first):\n" + '  File "/app/tasks.py", line 7 in deeper\n' * 99
    stack = finding(signal.SIGSEGV, dump=deep).stack
    assert stack.endswith("\n  …") and len(stack) < 2000


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB"), (1 << 60, "1048576.0 TiB")],
)
def test_sizes_are_readable(amount: int, text: str) -> None:
    assert size(amount) == text
