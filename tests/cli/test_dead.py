"""`docket dead`: what was set aside, with its cause."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from docket import Docket, Worker
from docket.sync import Docket as BlockingDocket
from tests.cli.conftest import Answer


@pytest.fixture
async def letters(docket: Docket) -> list[str]:
    """Two dead letters: no worker knows their task."""
    for key in ("one", "two"):
        await docket.add("nobody_knows_it", key=key)(1)
    async with Worker(docket, drain_timeout=timedelta(0)) as worker:
        await asyncio.wait_for(worker.run_until_finished(), 10)
    return ["one", "two"]


def test_none(ask: Answer, docket_name: str) -> None:
    assert ask("dead", "ls") == (0, f"Dead letters of docket '{docket_name}': none\n", "")


async def test_they_are_listed_with_their_cause(letters: list[str], ask: Answer, docket: Docket) -> None:
    code, out, _ = await asyncio.to_thread(ask, "dead", "ls", "--json")
    assert code == 0
    assert [letter["key"] for letter in json.loads(out)] == letters
    code, out, _ = await asyncio.to_thread(ask, "dead", "show", "one")
    assert code == 0 and "nobody_knows_it" in out and "cause: " in out
    await docket.purge_dead()


async def test_they_go_back_in_line(letters: list[str], ask: Answer, docket: Docket) -> None:
    code, out, _ = await asyncio.to_thread(ask, "dead", "retry", "one")
    assert code == 0 and out.startswith("Put 1 of 1 dead letters back in line")
    assert [each.key for each in (await docket.snapshot()).future] == ["one"]
    assert (await asyncio.to_thread(ask, "dead", "retry", "never"))[0] == 4
    await docket.clear()
    await docket.purge_dead()


async def test_they_can_be_forgotten(letters: list[str], ask: Answer, docket: Docket) -> None:
    assert (await asyncio.to_thread(ask, "dead", "purge", "one"))[1].startswith("Purged 1 of 1 dead letters")
    assert (await asyncio.to_thread(ask, "dead", "purge", "--all"))[1].startswith(
        "Purged 1 of 1 dead letters"
    )
    assert await docket.dead_letters() == []


def test_nothing_is_done_to_all_of_them_by_mistake(ask: Answer, client: BlockingDocket) -> None:
    for verb in ("retry", "purge"):
        code, _, err = ask("dead", verb)
        assert code == 2
        assert "expected keys of dead letters, or --all" in err


async def test_programs_are_told_how_many(letters: list[str], ask: Answer, docket: Docket) -> None:
    code, out, _ = await asyncio.to_thread(ask, "dead", "retry", "one", "never", "--json")
    assert code == 4
    assert json.loads(out) == {"docket": docket.name, "asked": 2, "retried": 1}
    code, out, _ = await asyncio.to_thread(ask, "dead", "purge", "--all", "--json")
    assert (code, json.loads(out)) == (0, {"docket": docket.name, "asked": 1, "purged": 1})
    assert json.loads((await asyncio.to_thread(ask, "clear", "--json"))[1]) == {
        "docket": docket.name,
        "cleared": 1,
    }
