"""The examples of "Striking and Restoring Tasks"."""

from __future__ import annotations

from collections.abc import Iterable

from docket import Docket, testing
from tests.seeds.conftest import Noted
from tests.seeds.documents import PATTERNS, example, imports


async def process_order(
    order_id: int = 0, customer_id: str = "", amount: float = 0, priority: str = "normal"
) -> None: ...


async def process_payment(amount: float, customer_id: str = "") -> None: ...


async def dispositions(docket: Docket) -> list[str]:
    """What becomes of a call that each of the three rules of the second example is about, and of one that none is."""
    return [
        str((await docket.add(process_order)(customer_id="12345")).disposition),
        str((await docket.add(process_order)(priority="high")).disposition),  # "high" <= "low": texts
        str((await docket.add(process_payment)(10001)).disposition),
        str((await docket.add(process_payment)(10000, customer_id="67890")).disposition),
    ]


async def scheduled_calls(docket: Docket) -> Iterable[dict[str, object]]:
    return [each.kwargs for each in (await docket.snapshot()).future]


async def test_whole_tasks(docket: Docket, noted: Noted):
    ran: list[int] = []

    async def process_order(order_id: int) -> None:
        ran.append(order_id)

    await example(PATTERNS, "Striking Entire Task Types").run(
        imports(docket=docket, process_order=process_order)
    )
    await testing.assert_no_tasks(docket)
    await docket.add(process_order)(order_id=1)  # it was restored
    await testing.run_to_the_end(docket)
    assert ran == [1]


async def test_parameters(docket: Docket):
    names = imports(docket=docket, process_order=process_order, process_payment=process_payment)
    struck: list[str] = []

    async def look() -> None:
        struck.extend(await dispositions(docket))

    later = "# Later, restore them"
    two_halves = example(PATTERNS, "Striking by Parameter Values").changed(later, f"await look()\n{later}")
    await two_halves.run({**names, "look": look})
    assert struck == ["struck", "struck", "struck", "scheduled"]
    # Of the three rules, two were lifted again.
    assert await dispositions(docket) == ["scheduled", "scheduled", "struck", "scheduled"]


async def test_several_parameters_of_one_task(docket: Docket):
    names = imports(docket=docket, process_order=process_order)
    await example(PATTERNS, "Striking Specific Task-Parameter Combinations").run(names)
    # Conditions are OR-ed, as everywhere: its third call, which the document says WILL run, costs more than 1000. Only
    # a call that no condition is about is scheduled.
    await testing.assert_no_tasks(docket)
    await docket.add(process_order)(customer_id="67890", amount=1000)
    assert await scheduled_calls(docket) == [{"customer_id": "67890", "amount": 1000}]
