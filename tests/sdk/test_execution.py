"""What an execution knows of itself, and what it learns."""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta

import pytest

from docket import Disposition, Docket, ExecutionState
from docket.errors import CannotLoad
from docket.execution import fresh_key
from tests.runtime.support import soon, work_off


async def test_states_and_timestamps_follow_the_life(docket: Docket):
    seen: list[ExecutionState] = []

    async def looks(key: str) -> None:
        execution = await docket.get_execution(key)
        assert execution is not None
        seen.append(execution.state)
        assert execution.started_at is not None and execution.completed_at is None and execution.worker == "w"

    execution = await docket.add(looks, key="k", when=soon(milliseconds=30))("k")
    assert execution.state is ExecutionState.SCHEDULED
    assert (execution.worker, execution.started_at, execution.completed_at) == (None, None, None)
    await work_off(docket, name="w")
    await execution.sync()
    assert seen == [ExecutionState.RUNNING] and execution.state is ExecutionState.COMPLETED
    assert execution.worker == "w" and execution.started_at and execution.completed_at
    assert execution.when <= execution.started_at <= execution.completed_at


async def test_a_failure_leaves_its_sentence(docket: Docket):
    async def fails() -> None:
        raise ValueError("the sentence")

    execution = await docket.add(fails)()
    await work_off(docket)
    await execution.sync()
    assert execution.error == "ValueError: the sentence"


async def test_an_execution_that_is_added_again_is_another_generation(docket: Docket):
    async def note(number: int) -> None: ...

    first = await docket.add(note, key="k")(1)
    second = await docket.replace(note, None, "k")(2)
    assert second.generation > first.generation
    await first.sync()
    assert first.generation == second.generation and first.args == (2,)
    await docket.clear()


async def test_what_was_refused_knows_the_call_that_is_there(docket: Docket):
    async def note(number: int, text: str = "") -> None: ...

    await docket.add(note, key="k", when=soon(seconds=60))(1, text="there")
    refused = await docket.add("other", key="k")(2, text="refused")
    assert refused.disposition is Disposition.ALREADY_SCHEDULED
    await refused.sync()
    assert (refused.function_name, refused.args, refused.kwargs) == ("note", (1,), {"text": "there"})
    await docket.clear()


async def test_arguments_that_are_known_are_not_read_again(docket: Docket):
    async def note(what: object) -> None: ...

    given = ["a list"]
    execution = await docket.add(note, key="k", when=soon(seconds=60))(given)
    await execution.sync()
    assert execution.args[0] is given
    await docket.clear()


async def test_an_expired_record_is_like_one_that_never_began(docket: Docket):
    execution = await docket.add("trace", key="k")("x")
    await work_off(docket)
    async with docket.redis() as redis:
        await redis.delete(docket.keys.runs("k"))
    await execution.sync()
    assert execution.state is ExecutionState.SCHEDULED and execution.completed_at is None


async def test_a_fetched_execution_has_its_call(docket: Docket):
    async def note(a: int, b: str = "default") -> None: ...

    when = soon(seconds=60)
    await docket.add(note, key="k", when=when)(1)
    fetched = await docket.get_execution("k")
    assert fetched is not None
    assert (fetched.key, fetched.function_name, fetched.args, fetched.kwargs) == ("k", "note", (1,), {})
    assert fetched.when == when and fetched.attempt == 1 and fetched.disposition is Disposition.LOADED
    assert fetched.function is note
    assert fetched.get_argument("a") == 1 and fetched.get_argument("b") == "default"
    with pytest.raises(KeyError):
        fetched.get_argument("c")
    await docket.clear()


async def test_an_unregistered_function_has_a_stand_in_that_refuses(docket: Docket):
    await docket.add("unheard of", key="k")(1)
    fetched = await docket.get_execution("k")
    assert fetched is not None and fetched.function.__name__ == "unheard of"
    with pytest.raises(LookupError, match="unheard of"):
        fetched.function()
    await docket.clear()


async def test_arguments_are_unpickled_when_somebody_looks(docket: Docket):
    await docket.add("trace", key="k")("x")
    async with docket.redis() as redis:
        await redis.hset(docket.keys.runs("k"), "body", b"pbroken")
    fetched = await docket.get_execution("k")
    assert fetched is not None
    assert [each.key for each in (await docket.snapshot()).future] == ["k"]
    with pytest.raises(CannotLoad):
        _ = fetched.args
    await docket.clear()


def test_fresh_keys_are_unique_also_after_a_fork():
    assert len({fresh_key() for _ in range(10_000)}) == 10_000
    if not hasattr(os, "fork"):
        return
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, fresh_key().encode())
        os._exit(0)
    os.waitpid(pid, 0)
    of_child = os.read(read, 100).decode()
    os.close(read)
    os.close(write)
    assert of_child.rpartition("-")[0] != fresh_key().rpartition("-")[0]


async def test_state_events_are_complete_and_in_order(docket: Docket):
    import json

    async def note() -> None: ...

    events: list[dict] = []
    async with docket.redis() as redis:
        pubsub = redis.pubsub()
        await pubsub.subscribe(docket.keys.state_channel('k "1"'))
        await docket.add(note, key='k "1"', when=soon(milliseconds=500))()
        await work_off(docket, name="w")
        while not events or events[-1]["state"] != "completed":
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=2)
            if message is not None:
                events.append(json.loads(message["data"]))
        await pubsub.aclose()
    assert [event["state"] for event in events] == ["scheduled", "queued", "running", "completed"]
    fields = {"type", "key", "state", "when", "worker", "started_at", "completed_at", "error"}
    moment = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|\+00:00)$")
    for event in events:
        assert set(event) == fields and event["type"] == "state" and event["key"] == 'k "1"'
        assert moment.match(event["when"]) and datetime.fromisoformat(event["when"])
    assert events[2]["worker"] == "w" and moment.match(events[2]["started_at"])
    assert moment.match(events[3]["completed_at"]) and events[3]["error"] is None
    began, ended = (datetime.fromisoformat(events[3][name]) for name in ("started_at", "completed_at"))
    assert timedelta(0) <= ended - began < timedelta(seconds=5)
