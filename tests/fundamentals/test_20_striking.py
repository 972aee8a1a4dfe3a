"""Striking: tasks that must not run for the moment, without deploying anything."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from docket import Disposition, Docket, ExecutionCancelled, ExecutionState, Worker
from docket.sync import Docket as BlockingDocket


async def work(docket: Docket) -> None:
    async with Worker(docket) as worker:
        await asyncio.wait_for(worker.run_until_finished(), 10)


async def test_a_struck_task_is_skipped_until_it_is_restored(docket: Docket) -> None:
    """What is added meanwhile is refused, nothing is written, and it does not come back: add it again."""
    shipped: list[int] = []

    async def process_order(order_id: int) -> None:
        shipped.append(order_id)

    await docket.strike(process_order)
    execution = await docket.add(process_order, key="order-1")(order_id=1)
    assert execution.disposition is Disposition.STRUCK
    assert await docket.get_execution("order-1") is None
    with pytest.raises(ExecutionCancelled, match="struck: process_order"):
        await execution.get_result()

    await docket.restore(process_order)
    await docket.add(process_order, key="order-1")(order_id=1)
    await work(docket)
    assert shipped == [1]


async def test_what_was_added_before_ends_cancelled_when_its_turn_comes(docket: Docket) -> None:
    """The strike is named as the reason. What runs already is not stopped."""
    shipped: list[int] = []

    async def process_order(order_id: int) -> None:
        shipped.append(order_id)

    now = await docket.add(process_order)(1)
    later = await docket.add(process_order, when=datetime.now(UTC) + timedelta(milliseconds=50))(2)
    await docket.strike(process_order)
    await work(docket)
    for execution in (now, later):
        await execution.sync()
        assert execution.state is ExecutionState.CANCELLED
        assert execution.error == "struck: process_order"
        with pytest.raises(ExecutionCancelled, match="struck: process_order"):
            await execution.get_result()
    assert shipped == []


async def test_tasks_are_struck_by_their_arguments(docket: Docket) -> None:
    """An argument left to its default has the default's value. Several rules are OR-ed."""
    ran: list[tuple[str, int]] = []

    async def process_order(customer_id: str, amount: int = 500) -> None:
        ran.append((customer_id, amount))

    await docket.strike(process_order, "customer_id", "==", "12345")
    await docket.strike(process_order, "amount", ">", 1000)
    executions = [
        await docket.add(process_order)(customer_id="12345", amount=500),
        await docket.add(process_order)(customer_id="12345", amount=2000),
        await docket.add(process_order)(customer_id="67890", amount=2000),
        await docket.add(process_order)("12345"),
        await docket.add(process_order)("67890"),
    ]
    assert [each.disposition for each in executions] == [Disposition.STRUCK] * 4 + [Disposition.SCHEDULED]
    await work(docket)
    assert ran == [("67890", 500)]


async def test_all_tasks_are_struck_by_an_argument(docket: Docket) -> None:
    """No function: whatever takes a parameter of this name."""

    async def process_order(customer_id: str) -> None: ...
    async def send_mail(text: str, customer_id: str) -> None: ...
    async def clean_up() -> None: ...

    await docket.strike(None, "customer_id", "==", "12345")
    assert (await docket.add(process_order)("12345")).disposition is Disposition.STRUCK
    assert (await docket.add(send_mail)("hello", "12345")).disposition is Disposition.STRUCK
    assert (await docket.add(send_mail)("hello", "67890")).disposition is Disposition.SCHEDULED
    assert (await docket.add(clean_up)()).disposition is Disposition.SCHEDULED
    await work(docket)


@pytest.mark.parametrize(
    ("operator", "value", "struck"),
    [
        ("==", 2, [2]),
        ("!=", 2, [1, 3, 4]),
        ("<", 2, [1]),
        ("<=", 2, [1, 2]),
        (">", 2, [3, 4]),
        (">=", 2, [2, 3, 4]),
        ("between", (2, 3), [2, 3]),
    ],
)
async def test_the_operators(docket: Docket, operator: str, value: object, struck: list[int]) -> None:
    """The argument stands on the left; `between` takes a pair and includes both ends."""

    async def process_payment(amount: int) -> None: ...

    await docket.strike(process_payment, "amount", operator, value)
    calls = [docket.call(process_payment)(amount) for amount in (1, 2, 3, 4)]
    refused = [
        execution.args[0]
        for execution in await docket.add_many(calls)
        if execution.disposition is Disposition.STRUCK
    ]
    assert refused == struck
    await work(docket)


async def test_a_rule_about_an_argument_has_nothing_to_do_with_the_whole_task(docket: Docket) -> None:
    """Lifting the one leaves the other as it is."""

    async def process_order(amount: int) -> None: ...

    await docket.strike(process_order)
    await docket.strike(process_order, "amount", ">", 10)
    assert await docket.restore(process_order, "amount", ">", 10) is True
    assert (await docket.add(process_order)(1)).disposition is Disposition.STRUCK
    assert await docket.restore(process_order) is True
    assert (await docket.add(process_order)(100)).disposition is Disposition.SCHEDULED
    assert await docket.restore(process_order) is False, "there is no such rule any more"
    await work(docket)


async def test_held_work_waits_and_runs_when_it_is_restored(docket: Docket) -> None:
    """With `hold` nothing is refused or lost: it is visible in the snapshot, and nobody waits for it."""
    ran: list[int] = []

    async def process_order(amount: int) -> int:
        ran.append(amount)
        return amount

    await docket.strike(process_order, "amount", ">", 10, hold=True)
    small = await docket.add(process_order)(1)
    large = await docket.add(process_order)(100)
    assert large.disposition is Disposition.SCHEDULED
    await work(docket)
    assert ran == [1] and await small.get_result() == 1
    assert [each.key for each in (await docket.snapshot()).future] == [large.key]

    await docket.restore(process_order, "amount", ">", 10)
    await work(docket)
    assert ran == [1, 100] and await large.get_result() == 100


async def test_replacing_is_refused_as_well(docket: Docket) -> None:
    """What waited under the key stays as it was."""

    async def process_order(amount: int) -> int:
        return amount

    execution = await docket.add(process_order, key="order")(1)
    await docket.strike(process_order, "amount", "==", 2)
    assert (await docket.replace(process_order, None, "order")(2)).disposition is Disposition.STRUCK
    (refused,) = await docket.replace_many([docket.call(process_order, key="order")(2)])
    assert refused.disposition is Disposition.STRUCK
    await work(docket)
    assert await execution.get_result() == 1


async def test_the_rules_can_be_looked_at(docket: Docket) -> None:
    """They are listed in the order in which they were made; what is restored is gone from the list."""
    await docket.strike("process_order", "amount", ">", 10)
    await docket.strike("send_mail", hold=True)
    await docket.strike(None, "customer_id", "==", "12345")
    await docket.restore("process_order", "amount", ">", 10)
    await docket.wait_for_strikes_loaded()
    assert [str(rule) for rule in docket.strike_list] == [
        "send_mail",
        "(all tasks) customer_id == '12345'",
    ]
    assert docket.strike_list.is_stricken({"customer_id": "12345"})
    assert not docket.strike_list.is_stricken({"customer_id": "67890"})


async def test_a_rule_about_nothing_is_refused(docket: Docket) -> None:
    """It would mean everything, or nothing."""
    with pytest.raises(ValueError, match="expected a function, a parameter or both"):
        await docket.strike()
    with pytest.raises(ValueError, match="expected a function, a parameter or both"):
        await docket.restore()


def test_the_blocking_client_strikes_and_restores_alike(docket_name: str, redis_url: str) -> None:
    """Each client is bound by what the other struck, from its next `add` on."""

    def process_order(amount: int) -> None: ...

    with BlockingDocket(docket_name, redis_url) as one, BlockingDocket(docket_name, redis_url) as two:
        assert one.add(process_order)(1).disposition is Disposition.SCHEDULED
        two.strike(process_order, "amount", ">", 10)
        refused = one.add(process_order)(100)
        assert refused.disposition is Disposition.STRUCK
        with pytest.raises(ExecutionCancelled, match="struck: process_order amount > 10"):
            refused.get_result()
        assert one.add(process_order)(10).disposition is Disposition.SCHEDULED
        assert [each.disposition for each in one.add_many([one.call(process_order)(11)])] == [
            Disposition.STRUCK
        ]
        assert one.restore(process_order, "amount", ">", 10) is True
        assert two.add(process_order)(100).disposition is Disposition.SCHEDULED
        two.wait_for_strikes_loaded()
        assert list(two.strike_list) == []
        one.clear()
