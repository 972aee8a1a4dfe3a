"""A worker's life is played through without a Redis, and leaves nothing but what it has warmed up."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from datetime import timedelta
from typing import Any

import pytest

from docket.dependencies.perpetual import Perpetual
from docket.docket import Docket
from docket.settings import DocketSettings
from docket_runtime import rehearsal
from docket_runtime.rehearsal import encoded, rehearse
from docket_runtime.settings import WorkerSettings
from docket_runtime.worker import Worker

NOWHERE = DocketSettings(name="orders", url="redis://no.such.host.invalid:1")
ran: list[str] = []


async def never() -> None:
    ran.append("never")


async def by_itself(perpetual: Perpetual = Perpetual(automatic=True)) -> None:
    ran.append("by itself")


async def by_itself_later(
    perpetual: Perpetual = Perpetual(every=timedelta(hours=1), automatic=True),
) -> None:
    ran.append("by itself, later")


tasks = [never]
automatic_tasks = [by_itself, by_itself_later]


def descriptors() -> set[str]:
    gc.collect()
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture
def lives(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[str]]]:
    """How many runs each worker counted, and what it had registered, as it left."""
    seen: list[tuple[int, list[str]]] = []
    finished = Worker.run_until_finished

    async def watched(self: Any) -> None:
        begun: list[str] = []
        (desk,) = self.desks
        begin = desk.begin
        desk.begin = lambda claimed: (begun.append(claimed.function), begin(claimed))
        await finished(self)
        assert set(begun) <= {"trace"}
        seen.append((len(begun), list(self.registry)))

    monkeypatch.setattr(Worker, "run_until_finished", watched)
    return seen


@pytest.mark.parametrize("signing_keys", ["", "0123456789abcdef0123456789abcdef"])
def test_a_worker_joins_runs_something_and_leaves_twice(
    lives: list[tuple[int, list[str]]], signing_keys: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    before = (threading.enumerate(), descriptors())
    docket = DocketSettings(name="orders", url=NOWHERE.url, signing_keys=signing_keys or None)
    assert rehearse(docket, WorkerSettings(tasks=(f"{__name__}:tasks",)))
    assert [runs for runs, _ in lives] == [20, 20]
    assert all("never" in registered for _, registered in lives)
    assert (threading.enumerate(), descriptors()) == before
    assert ran == [] and [record for record in caplog.records if record.name.startswith("docket")] == []


def test_automatic_tasks_are_added_like_everything_else_that_a_worker_does(
    lives: list[tuple[int, list[str]]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    added: list[list[Any]] = []
    add_many = Docket.add_many

    async def watched(self: Docket, calls: Any, **more: Any) -> Any:
        added.append(await add_many(self, calls, **more))
        return added[-1]

    monkeypatch.setattr(Docket, "add_many", watched)
    assert rehearse(NOWHERE, WorkerSettings(tasks=(f"{__name__}:automatic_tasks",)))
    assert [runs for runs, _ in lives] == [20, 20]
    assert [[each.key for each in some] for some in added] == [["by_itself", "by_itself_later"]] * 2
    assert all(each.schedule_exception is None for some in added for each in some)
    assert ran == [] and "rehearsal failed" not in caplog.text


def test_for_a_docket_that_is_split_one_partition_is_rehearsed() -> None:
    assert rehearse(DocketSettings(name="orders", url=NOWHERE.url, partitions=3), WorkerSettings(tasks=()))


def test_whoever_asks_for_the_current_loop_afterwards_is_answered_as_before() -> None:
    policy = asyncio.get_event_loop_policy()
    before = policy.__dict__.get("_local").__dict__.get("_set_called", False)
    assert rehearse(NOWHERE, WorkerSettings(tasks=()))
    assert policy.__dict__.get("_local").__dict__.get("_set_called", False) == before


def test_what_goes_wrong_is_no_reason_not_to_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert not rehearse(NOWHERE, WorkerSettings(tasks=("no.such.module:tasks",)))
    assert "the rehearsal failed" in caplog.text
    monkeypatch.setattr(rehearsal, "metering", lambda: True)
    assert not rehearse(NOWHERE, WorkerSettings())


@pytest.mark.parametrize("script", ["enlist", "exchange", "hand_over"])
def test_of_one_that_was_cut_short_nothing_is_left(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    told = rehearsal.Prompter._told_by_script

    def forgotten(self: Any, name: str, arguments: Any) -> Any:
        return b"what was it" if name == script else told(self, name, arguments)

    monkeypatch.setattr(rehearsal.Prompter, "_told_by_script", forgotten)
    before = (threading.enumerate(), descriptors())
    rehearse(NOWHERE, WorkerSettings(tasks=()))
    assert (threading.enumerate(), descriptors()) == before


def test_replies_are_written_as_redis_writes_them() -> None:
    assert encoded([1, b"ab", None, [b""]]) == b"*4\r\n:1\r\n$2\r\nab\r\n$-1\r\n*1\r\n$0\r\n\r\n"
