"""The bulletin: what one process writes about the service is read by all others, and never as a mixture."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st

from docket_supervisor.board import Board
from docket_supervisor.bulletin import CAUSES, OTHER_CAUSE, Bulletin, LastDeath, Queue


def bulletin(slots: int = 3) -> Bulletin:
    return Board(slots, 2).bulletin


def test_a_fresh_one_says_nothing() -> None:
    page = bulletin()
    assert (page.supervisor_pid, page.generation, page.phase, page.ticked_at) == (0, 0, "", 0.0)
    assert (page.quiet, page.complete, page.reachable, page.queue, page.deaths()) == (
        False,
        False,
        None,
        None,
        {},
    )
    assert [(slot.seat, slot.state, slot.restarts, slot.last_death) for slot in page.slots] == [
        (-1, "", 0, None)
    ] * 3


def test_every_field_is_its_own() -> None:
    page = bulletin()
    page.supervisor_pid, page.template_pid, page.steward_pid, page.generation, page.wanted = 1, 2, 3, 4, 5
    page.started_at, page.quiet, page.phase = 6.5, True, "running"
    page.tick()
    page.reachable = False
    page.measured(1, 2, 3, 4, 5.5)
    page.slots[1].seat, page.slots[1].restarts, page.slots[1].generation = 7, 8, 9
    page.slots[1].state = "resting"
    page.slots[1].died("killed by SIGKILL")
    assert (page.supervisor_pid, page.template_pid, page.steward_pid) == (1, 2, 3)
    assert (page.generation, page.wanted, page.started_at) == (4, 5, 6.5)
    assert (page.quiet, page.complete, page.phase, page.reachable) == (True, False, "running", False)
    assert 0 <= time.monotonic() - page.ticked_at < 5
    queue = page.queue
    assert queue is not None and queue == Queue(1, 2, 3, 4, 5.5, at=queue.at)
    slot = page.slots[1]
    assert (slot.seat, slot.restarts, slot.generation, slot.state) == (7, 8, 9, "resting")
    last = slot.last_death
    assert last is not None and last == LastDeath("killed by SIGKILL", last.at)
    assert abs(time.time() - last.at) < 5
    assert page.slots[0].last_death is None and page.slots[2].seat == -1


def test_it_is_read_in_other_processes() -> None:
    page = bulletin()
    pid = os.fork()
    if pid == 0:
        page.complete = True
        page.died("SIGKILL")
        os._exit(0)
    os.waitpid(pid, 0)
    assert page.complete and page.deaths() == {"SIGKILL": 1}


def test_deaths_are_counted_by_cause_and_causes_are_bounded() -> None:
    page = bulletin()
    for number in range(100):
        for _ in range(2):
            page.died(f"exit-{number}")
    deaths = page.deaths()
    assert len(deaths) == CAUSES and sum(deaths.values()) == 200
    assert deaths["exit-0"] == 2 and deaths[OTHER_CAUSE] == 2 * (100 - CAUSES + 1)


@given(text=st.text())
def test_any_text_can_be_put_up_and_a_long_one_is_cut(text: str) -> None:
    page = bulletin(1)
    page.phase = text
    assert text.encode(errors="replace").decode().startswith(page.phase)
    page.slots[0].died(text)
    last = page.slots[0].last_death
    assert last is not None and text.encode(errors="replace").decode().startswith(last.cause)


@contextmanager
def written_all_the_time(write: Callable[[int], object]) -> Generator[None]:
    """By another process: 1, 2, 3, …"""
    pid = os.fork()
    if pid == 0:
        for number in itertools.count(1):
            write(number)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_figures_are_never_a_mixture_of_two() -> None:
    page = bulletin()
    page.measured(0, 0, 0, 0, 0.0)

    def measure(number: int) -> None:
        page.measured(number, number, number, number, float(number))

    with written_all_the_time(measure):
        seen = 0
        give_up_at = time.monotonic() + 10
        while seen < 500 and time.monotonic() < give_up_at:
            if queue := page.queue:
                assert queue.due == queue.scheduled == queue.waiting == queue.dead == queue.latency
                seen += 1
        assert seen


def test_a_text_is_never_a_mixture_of_two_of_the_same_length() -> None:
    page = bulletin()

    def write(number: int) -> None:
        page.phase = "abcdefghijklmnopqrstuvwxyz"[number % 26] * 30

    with written_all_the_time(write):
        seen = 0
        give_up_at = time.monotonic() + 10
        while seen < 5000 and time.monotonic() < give_up_at:
            if phase := page.phase:
                assert len(set(phase)) == 1
                seen += 1
        assert seen
