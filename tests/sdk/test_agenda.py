"""An agenda scatters its calls evenly, in order, on either skin of a docket, in batches."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from docket import Agenda, CurrentDocket, Disposition, Docket, ExecutionState, Worker
from docket import sync as blocking
from docket.errors import CannotStore
from docket.store.requests import Commands
from tests.runtime.support import running, work_off

HOUR = timedelta(hours=1)
START = datetime(2100, 1, 1, tzinfo=UTC)


async def process(item: int) -> int:
    return item


def send(user: str, template: str = "welcome") -> None: ...


def agenda_of(count: int) -> Agenda:
    agenda = Agenda()
    for item in range(count):
        agenda.add(process)(item)
    return agenda


@pytest.fixture
def blocking_docket(docket_name: str, redis_url: str) -> Iterator[blocking.Docket]:
    with blocking.Docket(docket_name, redis_url) as docket:
        yield docket


async def test_calls_are_spread_evenly_from_start_to_end(docket: Docket):
    executions = await agenda_of(5).scatter(docket, over=HOUR, start=START)
    assert [execution.when - START for execution in executions] == [HOUR * i / 4 for i in range(5)]
    assert [execution.args for execution in executions] == [(i,) for i in range(5)]
    assert {execution.disposition for execution in executions} == {Disposition.SCHEDULED}


async def test_a_single_call_goes_to_the_middle(docket: Docket):
    (execution,) = await agenda_of(1).scatter(docket, over=HOUR, start=START)
    assert execution.when == START + HOUR / 2


async def test_it_starts_now_unless_told_otherwise(docket: Docket):
    before = datetime.now(UTC)
    first, last = await agenda_of(2).scatter(docket, over=HOUR)
    assert before <= first.when <= datetime.now(UTC)
    assert last.when - first.when == HOUR
    assert (first.state, last.state) == (ExecutionState.QUEUED, ExecutionState.SCHEDULED)


async def test_jitter_moves_each_call_but_none_before_the_start(docket: Docket):
    jitter = timedelta(minutes=10)
    executions = await agenda_of(200).scatter(docket, over=HOUR, start=START, jitter=jitter)
    moved = [each.when - START - HOUR * i / 199 for i, each in enumerate(executions)]
    assert all(abs(by) <= jitter for by in moved)
    assert all(each.when >= START for each in executions)
    assert len(set(moved)) > 100 and min(moved) < timedelta(0) < max(moved)


async def test_the_blocking_docket_scatters_without_await(blocking_docket: blocking.Docket):
    executions = agenda_of(3).scatter(blocking_docket, over=HOUR, start=START)
    assert all(isinstance(execution, blocking.Execution) for execution in executions)
    assert [execution.when - START for execution in executions] == [HOUR * i / 2 for i in range(3)]


async def test_functions_and_names_can_be_mixed_and_keep_their_order(docket: Docket):
    docket.register(send)
    agenda = Agenda()
    agenda.add(process)(item=1)
    agenda.add("send")("user123", template="bye")
    agenda.add(process)(2)
    executions = await agenda.scatter(docket, over=HOUR, start=START)
    assert [each.function_name for each in executions] == ["process", "send", "process"]
    assert [each.when for each in executions] == sorted(each.when for each in executions)
    assert executions[1].kwargs == {"template": "bye"}


async def test_it_can_be_scattered_again_with_fresh_keys(docket: Docket):
    agenda = agenda_of(3)
    keys = [
        {each.key for each in await agenda.scatter(docket, over=HOUR, start=start)}
        for start in (START, START + HOUR)
    ]
    assert len(keys[0] | keys[1]) == 6


async def test_a_given_key_makes_scattering_again_a_no_op(docket: Docket):
    agenda = Agenda()
    agenda.add(process, key="k")(1)
    await agenda.scatter(docket, over=HOUR, start=START)
    (again,) = await agenda.scatter(docket, over=HOUR, start=START + HOUR)
    assert again.key == "k" and again.disposition is Disposition.ALREADY_SCHEDULED
    assert again.when == START + HOUR / 2


async def test_it_has_a_length_can_be_looked_at_and_cleared(docket: Docket):
    agenda = agenda_of(2)
    agenda.add("send", key="k")("user")
    assert len(agenda) == 3
    assert [tuple(entry) for entry in agenda] == [
        (process, (0,), {}, None),
        (process, (1,), {}, None),
        ("send", ("user",), {}, "k"),
    ]
    agenda.clear()
    assert len(agenda) == 0
    assert await agenda.scatter(docket, over=HOUR) == []


@pytest.mark.parametrize("over", [timedelta(0), timedelta(seconds=-1)])
async def test_over_must_be_positive(docket: Docket, over: timedelta):
    with pytest.raises(ValueError, match="expected over to be positive"):
        await agenda_of(1).scatter(docket, over=over)


async def test_jitter_must_not_be_negative_and_start_be_aware(docket: Docket):
    with pytest.raises(ValueError, match="expected jitter to be zero or more"):
        await agenda_of(1).scatter(docket, over=HOUR, jitter=-HOUR)
    with pytest.raises(ValueError, match="aware datetime"):
        await agenda_of(1).scatter(docket, over=HOUR, start=datetime(2100, 1, 1))
    assert (await docket.snapshot()).future == []


def test_a_wrong_call_is_refused_when_it_is_added():
    agenda = Agenda()
    with pytest.raises(TypeError, match="send"):
        agenda.add(send)()  # pyright: ignore[reportCallIssue]
    with pytest.raises(ValueError, match="a key of at least one character"):
        agenda.add(send, key="")
    assert len(agenda) == 0


async def test_a_wrong_call_by_a_name_known_here_schedules_nothing(docket: Docket):
    docket.register(send)
    agenda = agenda_of(2)
    agenda.add("send")(no="such parameter")
    with pytest.raises(TypeError, match="send"):
        await agenda.scatter(docket, over=HOUR)
    assert (await docket.snapshot()).future == []


async def test_what_cannot_be_pickled_schedules_nothing(docket: Docket):
    agenda = agenda_of(2)
    agenda.add(process)(i for i in ())  # pyright: ignore[reportArgumentType]
    with pytest.raises(CannotStore, match="'item'"):
        await agenda.scatter(docket, over=HOUR)
    assert (await docket.snapshot()).future == []


async def test_an_unknown_name_ends_it_after_what_stands_before(docket: Docket):
    agenda = agenda_of(2)
    agenda.add("nonexistent_task")("arg3")
    agenda.add(process)(4)
    with pytest.raises(KeyError, match=r"no task named 'nonexistent_task'.*2 of 4 calls"):
        await agenda.scatter(docket, over=HOUR, start=START)
    assert sorted(each.args for each in (await docket.snapshot()).future) == [(0,), (1,)]


async def test_the_blocking_docket_refuses_unknown_names_too(blocking_docket: blocking.Docket):
    agenda = agenda_of(1)
    agenda.add("nonexistent_task")()
    with pytest.raises(KeyError):
        agenda.scatter(blocking_docket, over=HOUR, start=START)
    assert len(blocking_docket.snapshot().future) == 1


async def test_a_name_that_a_worker_ever_knew_can_be_scattered(
    docket: Docket, docket_name: str, redis_url: str
):
    agenda = Agenda()
    agenda.add("known_elsewhere")()

    async def known_elsewhere() -> None: ...

    async with Docket(docket_name, redis_url) as other:
        other.register(known_elsewhere)
        async with running(other):
            await agenda.scatter(docket, over=HOUR, start=START)
    assert await docket.workers() == []
    await agenda.scatter(docket, over=HOUR, start=START)  # the worker has left, its names are remembered
    assert len((await docket.snapshot()).future) == 2


async def test_it_is_sent_in_batches_not_in_a_round_trip_each(docket: Docket, monkeypatch):
    asked: list[Any] = []
    ask = docket.store.ask

    async def counted(request: Any) -> Any:
        asked.append(request)
        return await ask(request)

    monkeypatch.setattr(docket.store, "ask", counted)
    agenda = agenda_of(1000)
    agenda.add("sleep")(0)
    executions = await agenda.scatter(docket, over=HOUR, start=START)
    assert len(executions) == 1001 and len(asked) == 6
    assert not any(isinstance(request, Commands) for request in asked)


async def test_unknown_names_are_asked_for_in_one_round_trip(docket: Docket, monkeypatch):
    asked: list[Any] = []
    ask = docket.store.ask

    async def counted(request: Any) -> Any:
        asked.append(request)
        return await ask(request)

    monkeypatch.setattr(docket.store, "ask", counted)
    agenda = Agenda()
    for i in range(50):
        agenda.add(f"stranger{i}")()
    with pytest.raises(KeyError, match="stranger0"):
        await agenda.scatter(docket, over=HOUR)
    assert len(asked) == 1


async def test_what_was_scattered_runs(docket: Docket):
    executions = await agenda_of(3).scatter(docket, over=timedelta(milliseconds=20))
    await work_off(docket)
    assert [await execution.get_result() for execution in executions] == [0, 1, 2]


async def test_a_task_can_scatter_on_its_own_docket(docket: Docket):
    done: list[int] = []

    def leaf(i: int) -> None:
        done.append(i)

    def from_a_thread(docket: blocking.Docket = CurrentDocket()) -> None:  # pyright: ignore[reportArgumentType]
        agenda = Agenda()
        agenda.add(leaf)(1)
        agenda.scatter(docket, over=timedelta(milliseconds=2))

    async def on_the_loop(docket: Docket = CurrentDocket()) -> None:
        agenda = Agenda()
        agenda.add(leaf)(2)
        await agenda.scatter(docket, over=timedelta(milliseconds=2))

    await docket.add(from_a_thread)()
    await docket.add(on_the_loop)()
    async with Worker(docket) as worker:
        await worker.run_until_finished()
    assert sorted(done) == [1, 2]
