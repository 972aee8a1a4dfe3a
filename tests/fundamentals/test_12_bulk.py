"""Many calls at once go in batches, not one by one."""

from __future__ import annotations

from datetime import datetime

import pytest

from docket import Disposition, Docket, TaskCall


async def test_many_calls_are_added_together(docket: Docket, tomorrow: datetime, work):
    """`docket.call` describes a call, `add_many` schedules all of them and gives an execution for each, in order."""
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    calls = [docket.call(note)(number) for number in range(1000)]
    calls.append(docket.call(note, when=tomorrow, key="tomorrow")(-1))
    assert isinstance(calls[0], TaskCall)

    executions = await docket.add_many(calls)
    assert [execution.args[0] for execution in executions] == [*range(1000), -1]
    assert {execution.disposition for execution in executions} == {Disposition.SCHEDULED}

    await docket.cancel("tomorrow")
    await work()
    assert sorted(ran) == list(range(1000))


async def test_a_described_call_is_not_scheduled(docket: Docket):
    """Until somebody adds it."""

    async def note() -> None: ...

    docket.call(note)()
    assert (await docket.snapshot()).total_tasks == 0


async def test_keys_are_single_within_a_batch_as_well(docket: Docket, work):
    """The first of a key is added, the others are told."""
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    executions = await docket.add_many([docket.call(note, key="k")(number) for number in range(3)])
    assert [execution.disposition for execution in executions] == [
        Disposition.SCHEDULED,
        Disposition.ALREADY_SCHEDULED,
        Disposition.ALREADY_SCHEDULED,
    ]
    await work()
    assert ran == [0]


async def test_many_calls_are_replaced_together(docket: Docket, tomorrow: datetime, work):
    """`replace_many` is to `replace` what `add_many` is to `add`."""
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    await docket.add_many([docket.call(note, when=tomorrow, key=f"k{number}")(number) for number in range(5)])
    await docket.replace_many([docket.call(note, key=f"k{number}")(10 * number) for number in range(5)])
    await work()
    assert sorted(ran) == [0, 10, 20, 30, 40]


async def test_wrong_calls_and_sizes_are_refused(docket: Docket):
    """Before anything is sent."""

    async def note(number: int) -> None: ...

    with pytest.raises(TypeError):
        docket.call(note)()  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="chunk_size"):
        await docket.add_many([], chunk_size=0)
    assert await docket.add_many([]) == []
