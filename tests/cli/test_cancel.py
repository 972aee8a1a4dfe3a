"""`docket cancel`: one execution, by its key."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

from docket import Docket as AsyncDocket
from docket import Worker, clock
from docket.sync import Docket
from tests.cli.conftest import Answer


def test_what_waits_is_cancelled(ask: Answer, client: Docket) -> None:
    execution = client.add("trace", when=clock.now() + timedelta(hours=1), key="later")("x")
    assert ask("cancel", "later") == (0, "Cancelled 'later', which was scheduled\n", "")
    execution.sync()
    assert execution.state == "cancelled"


def test_what_has_ended_is_left_alone(ask: Answer, client: Docket) -> None:
    client.add("trace", key="k")("x")
    ask("cancel", "k")
    assert ask("cancel", "k") == (0, "'k' had ended already: cancelled\n", "")


async def test_what_waits_for_a_worker_that_knows_its_task_is_cancelled(
    ask: Answer, docket: AsyncDocket
) -> None:
    await docket.add("nobody_knows_it", key="k")(1)
    async with Worker(docket, drain_timeout=timedelta(0)) as worker:
        await asyncio.wait_for(worker.run_until_finished(), 10)
    assert await asyncio.to_thread(ask, "cancel", "k") == (0, "Cancelled 'k', which was queued\n", "")
    assert await docket.dead_letters() == []


def test_what_is_not_there_is_told(ask: Answer, docket_name: str) -> None:
    code, out, err = ask("cancel", "nobody")
    assert (code, out) == (4, "")
    assert f"there is no execution 'nobody' in docket '{docket_name}'" in err


def test_programs_are_told_what_it_was(ask: Answer, client: Docket) -> None:
    client.add("trace", key="k")("x")
    code, out, _ = ask("cancel", "k", "--json")
    assert (code, json.loads(out)) == (0, {"key": "k", "cancelled": True, "was": "queued"})
    assert json.loads(ask("cancel", "k", "--json")[1]) == {
        "key": "k",
        "cancelled": False,
        "was": "cancelled",
    }
