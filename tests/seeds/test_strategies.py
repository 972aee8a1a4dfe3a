"""The examples of the issue that asked for strategies (`concurrency-strategies-issue.txt`), run as they stand there."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

import docket as front_door
from docket import ConcurrencyLimit, Docket, ExecutionState, testing
from tests.seeds.documents import FOLDER

ISSUE = (FOLDER / "concurrency-strategies-issue.txt").read_text()

BLOCKS = {
    "workaround": ("# Current workaround", "    await process_data(data)"),
    "two arguments": ("# Not possible: limit by region", "    await process_data(data)"),
    "strategies": ("from docket import ConcurrencyLimit, LIMIT_BY", "max_concurrent=10)"),
    "compatible": ("# Existing code continues", "# Still works"),
    "of your own": (
        "class ApiRateLimitStrategy",
        "ConcurrencyLimit(ApiRateLimitStrategy(), max_concurrent=5)",
    ),
    "conflicts": ("ConcurrencyLimit(\n    LIMIT_BY.fn_argument", "\n)"),
}
"""The issue has no fences: what each example begins and ends with."""


def printed(name: str) -> str:
    first, last = BLOCKS[name]
    start = ISSUE.index(first)
    return ISSUE[start : ISSUE.index(last, start + len(first)) + len(last)]


def limits_of(name: str, **names: Any) -> list[ConcurrencyLimit]:
    """What the statements of an example are, one after the other."""
    names |= {each: getattr(front_door, each) for each in front_door.__all__}
    found: list[ConcurrencyLimit] = []
    for statement in ast.parse(printed(name)).body:
        if isinstance(statement, ast.Expr):
            found.append(eval(compile(ast.Expression(statement.value), name, "eval"), names))
        else:
            exec(compile(ast.Module([statement], []), name, "exec"), names)
    return found


class Inside:
    """How many are in it at once."""

    def __init__(self) -> None:
        self.now = self.most = self.visits = 0

    async def visit(self, *_: Any) -> None:
        self.now, self.visits = self.now + 1, self.visits + 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.01)
        self.now -= 1


def test_no_example_is_forgotten():
    covered = "\n".join(printed(name) for name in BLOCKS)
    looks_like_code = re.compile(r"^(?:from|async def|class|ConcurrencyLimit\(|    [a-z@]).*$", re.MULTILINE)
    code = [match[0] for match in looks_like_code.finditer(ISSUE)]
    assert len(code) > 20
    assert [line for line in code if line not in covered] == []


@pytest.mark.parametrize("name", ["workaround", "two arguments"])
async def test_what_was_written_before(docket: Docket, name: str):
    inside = Inside()
    names: dict[str, Any] = {"ConcurrencyLimit": ConcurrencyLimit, "process_data": inside.visit}
    exec(printed(name), names)
    task = names["heavy_computation" if name == "workaround" else "curiously_codependent_task"]
    arguments: dict[str, Any] = {} if name == "workaround" else {"account_id": "a", "department_id": "d"}
    for _ in range(9):
        await docket.add(task)({"some": "data"}, **arguments)
    await testing.run_to_the_end(docket)
    assert (inside.visits, inside.most) == (9, 3)


def a_task(inside: Inside, limit: ConcurrencyLimit) -> Callable[..., Any]:
    async def task(
        customer_id: int = 1,
        region: str = "eu",
        priority: str = "high",
        api_key: str = "k",
        tier: str = "gold",
        concurrency: ConcurrencyLimit = limit,
    ) -> None:
        await inside.visit()

    return task


@pytest.mark.parametrize(
    ("number", "key", "most"),
    [
        (0, "customer_id:1", 1),
        (1, "customer_id:1", 1),
        (2, "task", 3),
        (3, "billing_ops", 2),
        (4, "region:eu:priority:high", 5),
        (5, "region:eu:priority:high", 5),
        (6, "k:gold", 10),
    ],
)
async def test_the_proposed_strategies(docket: Docket, number: int, key: str, most: int):
    inside, usage = Inside(), list[int]()
    limits = limits_of("strategies")
    assert len(limits) == 7
    task = a_task(inside, limits[number])

    async def visit(*_: Any) -> None:
        async with docket.redis() as redis:
            usage.append(await redis.scard(f"{docket.name}:concurrency:{key}"))
        await Inside.visit(inside)

    inside.visit = visit
    await docket.add_many([docket.call(task)() for _ in range(2 * most)])
    await testing.run_to_the_end(docket, concurrency=2 * most)
    assert (inside.visits, inside.most) == (2 * most, most)
    assert max(usage) == most and min(usage) >= 1


async def test_what_it_translates_to(docket: Docket):
    """The short form and the long one share a limit."""
    inside = Inside()
    (short, long, *_), (still,) = limits_of("strategies"), limits_of("compatible")
    for limit in (short, long, still):
        task = a_task(inside, limit)
        for _ in range(2):
            await docket.add(task)()
    await testing.run_to_the_end(docket)
    assert (inside.visits, inside.most) == (6, 1)


async def test_one_object_for_several_functions(docket: Docket):
    """What the issue says of sharing limits, in its note."""
    inside = Inside()
    shared = limits_of("strategies")[3]

    async def charge(limit: ConcurrencyLimit = shared) -> None:
        await inside.visit()

    async def refund(limit: ConcurrencyLimit = shared) -> None:
        await inside.visit()

    for _ in range(4):
        await docket.add(charge)()
        await docket.add(refund)()
    await testing.run_to_the_end(docket)
    assert (inside.visits, inside.most) == (8, 2)


async def test_a_strategy_of_your_own(docket: Docket):
    inside, asked = Inside(), list[str]()

    def get_tier_for_rate_account(api_key: str) -> str:
        asked.append(api_key)
        return "gold"

    (limit,) = limits_of("of your own", get_tier_for_rate_account=get_tier_for_rate_account)
    task = a_task(inside, limit)
    await docket.add_many([docket.call(task)(api_key="secret") for _ in range(12)])
    await testing.run_to_the_end(docket, concurrency=12)
    assert (inside.visits, inside.most) == (12, 5)
    assert set(asked) == {"secret"}


async def test_conflicts(docket: Docket):
    inside = Inside()
    (limit,) = limits_of("conflicts")
    task = a_task(inside, limit)
    executions = [await docket.add(task)() for _ in range(3)]
    await testing.run_to_the_end(docket)
    for execution in executions:
        await execution.sync()
    assert inside.visits == 1
    assert sorted(execution.state for execution in executions) == [
        ExecutionState.CANCELLED,
        ExecutionState.CANCELLED,
        ExecutionState.COMPLETED,
    ]
