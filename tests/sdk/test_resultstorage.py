"""Results in a storage of the user's: what lies where, whose counts, and what happens when the storage fails."""

from __future__ import annotations

import asyncio
import base64
import logging
import threading
import time
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any, SupportsFloat

import pytest

from docket import (
    CurrentDocket,
    Docket,
    Perpetual,
    ResultStorageFailed,
    ResultUnavailable,
    Retry,
    Worker,
    resultstorage,
)
from docket.resultstorage import AsyncKeyValue, ResultStorage
from docket.sync import Docket as BlockingDocket
from tests.runtime.support import NO_TIME, Gate, finish, running, soon, until, work_off


class Shelf:
    """Remembers everything, and misbehaves when told to."""

    def __init__(self) -> None:
        self.held: dict[str, Mapping[str, Any]] = {}
        self.puts: list[tuple[str, float]] = []
        self.set_up = 0
        self.trouble: BaseException | None = None
        self.hangs = False
        self.loops: set[int] = set()

    async def setup(self) -> None:
        self.set_up += 1

    async def put(
        self,
        key: str,
        value: Mapping[str, Any],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None:
        await self._misbehave()
        self.loops.add(id(asyncio.get_running_loop()))
        self.held[key] = value
        self.puts.append((key, float(ttl or 0)))

    async def get(self, key: str, *, collection: str | None = None) -> Mapping[str, Any] | None:
        await self._misbehave()
        await asyncio.sleep(0.001)  # as with a real one, the loop turns before it has answered
        self.loops.add(id(asyncio.get_running_loop()))
        return self.held.get(key)

    async def _misbehave(self) -> None:
        if self.trouble is not None:
            raise self.trouble
        if self.hangs:
            await asyncio.Event().wait()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
async def docket(docket_name: str, redis_url: str, shelf: Shelf) -> AsyncIterator[Docket]:
    async with Docket(docket_name, redis_url, result_storage=shelf) as docket:
        yield docket


async def echo(value: Any) -> Any:
    return value


async def refuse() -> None:
    raise LookupError("no")


async def test_it_is_set_up_once_for_each_entry(docket_name: str, redis_url: str, shelf: Shelf):
    docket = Docket(docket_name, redis_url, result_storage=shelf)
    assert shelf.set_up == 0 and docket.result_storage is shelf
    for number in (1, 2):
        async with docket:
            assert shelf.set_up == number
    with BlockingDocket(docket_name, redis_url, result_storage=shelf) as blocking:
        assert shelf.set_up == 3 and blocking.result_storage is shelf


async def test_a_storage_that_cannot_be_set_up_is_the_users_to_see(docket_name: str, redis_url: str):
    class Wrong(Shelf):
        async def setup(self) -> None:
            raise PermissionError("not yours")

    docket = Docket(docket_name, redis_url, result_storage=Wrong())
    with pytest.raises(PermissionError, match="not yours"):
        await docket.__aenter__()
    with pytest.raises(RuntimeError, match="not open"):
        _ = docket.store
    threads = threading.active_count()
    with pytest.raises(PermissionError), BlockingDocket(docket_name, redis_url, result_storage=Wrong()):
        pass
    assert threading.active_count() <= threads


@pytest.mark.parametrize("wrong", [object(), {}, "redis://localhost"])
def test_what_is_no_storage_is_refused_with_a_sentence(wrong: Any):
    with pytest.raises(TypeError, match=r"expected result_storage to be a store .* without (get and )?put"):
        Docket(result_storage=wrong)
    with pytest.raises(TypeError, match="expected result_storage"):
        BlockingDocket(result_storage=wrong)


async def test_a_store_without_setup_will_do(docket_name: str, redis_url: str):
    class Bare:
        get, put = Shelf.get, Shelf.put
        _misbehave = Shelf._misbehave
        trouble, hangs = None, False

        def __init__(self) -> None:
            self.held: dict[str, Any] = {}
            self.puts: list[Any] = []
            self.loops: set[int] = set()

    async with Docket(docket_name, redis_url, result_storage=Bare()) as docket:
        execution = await docket.add(echo)(5)
        await work_off(docket)
        assert await execution.get_result() == 5


@pytest.mark.parametrize("value", [1, "text", {"a": [1, 2]}, b"\x00\xff" * 1000, lambda: 3])
async def test_any_value_that_can_be_pickled_comes_back(docket: Docket, shelf: Shelf, value: Any):
    execution = await docket.add(echo)(value)
    await work_off(docket)
    result = await execution.get_result()
    assert result() == 3 if callable(value) else result == value
    await execution.sync()
    assert execution.result_key is not None and execution.result_key in shelf.held
    assert execution.result_key.startswith(execution.key)


async def test_none_needs_no_storage(docket: Docket, shelf: Shelf):
    execution = await docket.add(echo)(None)
    await work_off(docket)
    assert await execution.get_result() is None
    assert shelf.puts == []


async def test_the_lifetime_is_that_of_the_client_who_asked(docket: Docket, shelf: Shelf, redis_url: str):
    async with Docket(
        docket.name, redis_url, execution_ttl=timedelta(seconds=7.5), result_storage=shelf
    ) as client:
        await client.add(echo)(1)
    async with Docket(docket.name, redis_url, execution_ttl=timedelta(0)) as client:
        await client.add(echo)(1)
    docket.register(echo)
    await work_off(docket)
    assert [ttl for _, ttl in shelf.puts] == [7.5]


async def test_what_is_kept_is_plain_json(docket: Docket, shelf: Shelf):
    await docket.add(echo)("x")
    await work_off(docket)
    ((_, value),) = shelf.held.items()
    assert set(value) == {"data"} and isinstance(value["data"], str)
    assert base64.b64decode(value["data"])[:1] == b"p"


async def test_it_lies_there_before_the_end_is_announced(docket: Docket, shelf: Shelf):
    seen: list[bool] = []
    execution = await docket.add(echo)(1)

    async def watch() -> None:
        async for event in execution.subscribe():
            if event["type"] == "state" and event["state"] == "completed":
                seen.append(len(shelf.held) == 1)

    watching = asyncio.create_task(watch())
    await work_off(docket)
    await asyncio.wait_for(watching, 5)
    assert seen == [True]


async def test_a_replaced_run_that_ends_last_overwrites_nothing(docket: Docket, shelf: Shelf):
    gate = Gate()

    async def slow(value: str) -> str:
        if value == "old":
            gate.begun.set()
            await gate.open.wait()
        return value

    old = await docket.add(slow, key="k")("old")
    async with running(docket):
        await gate.begun.wait()
        new = await docket.replace(slow, None, "k")("new")
        gate.open.set()
        assert await asyncio.wait_for(new.get_result(), 5) == "new"
    assert await old.get_result() == "new"
    assert len({key for key, _ in shelf.puts}) == 2, "each generation has a place of its own"


async def test_each_delivery_has_a_place_of_its_own():
    names = {
        resultstorage.name_of("k", 1, "d:1-0"),
        resultstorage.name_of("k", 2, "d:1-0"),
        resultstorage.name_of("k", 1, "r:1-0"),
        resultstorage.name_of("k:1", 1, "d:1-0"),
        resultstorage.name_of("k:1:d:1-0", 1, "d:1-0"),
    }
    assert len(names) == 5


@pytest.mark.parametrize("kind", ["raises", "hangs", "exits"])
async def test_a_storage_that_fails_fails_that_execution_only(
    docket: Docket, shelf: Shelf, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(resultstorage, "PATIENCE", 0.05)
    shelf.hangs = kind == "hangs"
    shelf.trouble = {"raises": OSError("the disk is full"), "exits": SystemExit(3), "hangs": None}[kind]
    runs: list[int] = []

    async def count(retry: Retry = Retry(attempts=3)) -> int:
        runs.append(1)
        return 1

    execution = await docket.add(count)()
    innocent = await docket.add(echo)(None)
    await work_off(docket)
    assert runs == [1], "its side effects have happened"
    await execution.sync()
    assert execution.state == "failed"
    expected = {
        "raises": "the result storage cannot keep it: OSError: the disk is full",
        "hangs": "it has not answered within",
        "exits": "3",
    }[kind]
    if kind == "exits":
        with pytest.raises(SystemExit):
            await execution.get_result()
    else:
        with pytest.raises(ResultStorageFailed, match=expected):
            await execution.get_result()
        assert f"the result of {execution.key} (count) is lost" in caplog.text
    assert await innocent.get_result() is None


async def test_an_exception_that_cannot_be_kept_there_is_kept_in_redis(
    docket: Docket, shelf: Shelf, caplog: pytest.LogCaptureFixture
):
    """Otherwise the failure of the storage would hide why the task failed."""
    shelf.trouble = OSError("the disk is full")
    execution = await docket.add(refuse)()
    await work_off(docket)
    with pytest.raises(LookupError, match="no"):
        await execution.get_result()
    assert "is kept in Redis: the result storage cannot keep it: OSError: the disk is full" in caplog.text


async def test_a_storage_that_cannot_be_read_is_a_clear_error(
    docket: Docket, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
):
    execution = await docket.add(echo)(1)
    await work_off(docket)
    shelf.trouble = OSError("away")
    with pytest.raises(ResultStorageFailed, match="cannot give it: OSError: away") as raised:
        await execution.get_result()
    assert isinstance(raised.value.__cause__, OSError)
    shelf.trouble, shelf.hangs = None, True
    with pytest.raises(TimeoutError):
        await execution.get_result(timeout=timedelta(milliseconds=10))
    monkeypatch.setattr(resultstorage, "PATIENCE", 0.02)
    with pytest.raises(ResultStorageFailed, match="not answered within"):
        await execution.get_result()


async def test_what_the_storage_has_forgotten_is_a_clear_error(docket: Docket, shelf: Shelf):
    execution = await docket.add(echo)(1)
    await work_off(docket)
    name = next(iter(shelf.held))
    shelf.held[name] = {"something": "else"}
    with pytest.raises(ResultStorageFailed, match="gave back something else"):
        await execution.get_result()
    shelf.held.clear()
    with pytest.raises(ResultUnavailable, match="has expired"):
        await execution.get_result()


async def test_a_client_without_the_storage_is_told_where_the_result_is(
    docket: Docket, docket_name: str, redis_url: str
):
    execution = await docket.add(echo)(1)
    await work_off(docket)
    async with Docket(docket_name, redis_url) as other:
        found = await other.get_execution(execution.key)
        assert (found is not None and found.result_key == execution.key) or found
        with pytest.raises(ResultUnavailable, match="lies in a result storage"):
            await found.get_result()
    with BlockingDocket(docket_name, redis_url) as blocking:
        again = blocking.get_execution(execution.key)
        assert again is not None
        with pytest.raises(ResultUnavailable, match="lies in a result storage"):
            await asyncio.to_thread(again.get_result)


async def test_results_from_before_the_storage_are_still_found(
    docket: Docket, docket_name: str, redis_url: str
):
    async with Docket(docket_name, redis_url) as plain:
        before = await plain.add(echo)("old")
        await work_off(plain)
    found = await docket.get_execution(before.key)
    assert found is not None and await found.get_result() == "old"


async def test_a_perpetual_task_that_goes_on_keeps_nothing(docket: Docket, shelf: Shelf):
    ran = asyncio.Event()

    async def turn(perpetual: Perpetual = Perpetual(every=timedelta(hours=1))) -> int:
        ran.set()
        return 1

    await docket.add(turn, key="turn")()
    async with running(docket):
        await asyncio.wait_for(ran.wait(), 5)
    await docket.cancel("turn")
    assert shelf.puts == []


async def test_an_interrupted_put_hands_the_execution_back(docket: Docket, shelf: Shelf):
    shelf.hangs = True
    execution = await docket.add(echo)(1)
    async with Worker(docket, drain_timeout=NO_TIME) as worker:
        task = asyncio.create_task(worker.run_forever())
        await until(lambda: worker.claims and next(iter(worker.claims)).begun)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await execution.sync()
    assert execution.state == "queued"
    shelf.hangs = False
    await work_off(docket)
    assert await execution.get_result() == 1


async def test_a_sync_task_asks_on_the_loop_of_its_worker(docket: Docket, shelf: Shelf):
    """The storage may be bound to that loop, and a thread has none."""
    await docket.add(echo, key="first")("x")
    await work_off(docket)

    def ask(docket: BlockingDocket = CurrentDocket()) -> Any:  # type: ignore[assignment]
        execution = docket.get_execution("first")
        assert execution is not None
        return execution.get_result()

    execution = await docket.add(ask)()
    async with Worker(docket, drain_timeout=NO_TIME) as worker:
        await finish(worker)
    assert await execution.get_result() == "x"
    assert shelf.loops == {id(asyncio.get_running_loop())}


async def test_a_blocking_docket_waits_in_its_thread_and_asks_on_a_loop_of_its_own(
    docket: Docket, docket_name: str, redis_url: str, shelf: Shelf
):
    docket.register(echo)
    here = id(asyncio.get_running_loop())

    def ask() -> list[Any]:
        with BlockingDocket(docket_name, redis_url, result_storage=shelf) as blocking:
            good, bad = blocking.add(echo)([1]), blocking.add("refuse")()
            answers: list[Any] = [good.get_result()]
            try:
                bad.get_result()
            except LookupError as error:
                answers.append(str(error))
            return answers

    docket.register(refuse)
    async with running(docket):
        assert await asyncio.wait_for(asyncio.to_thread(ask), 10) == [[1], "no"]
    assert here in shelf.loops and len(shelf.loops) == 2
    with pytest.raises(RuntimeError, match="not open"):
        BlockingDocket(docket_name, redis_url, result_storage=shelf).run_on_loop(shelf.get, "x")


async def test_the_collection_is_the_dockets_own(docket_name: str, redis_url: str):
    pytest.importorskip("key_value.aio", reason="py-key-value-aio is not installed")
    from key_value.aio.stores.memory import MemoryStore  # pyright: ignore

    store: Any = MemoryStore()
    assert isinstance(MemoryStore(), AsyncKeyValue)
    async with (
        Docket(docket_name, redis_url, result_storage=store) as one,
        Docket(f"{docket_name}-2", redis_url, result_storage=store) as two,
    ):
        first, second = await one.add(echo, key="k")({"deep": [1]}), await two.add(refuse, key="k")()
        await work_off(one)
        await work_off(two)
        assert await first.get_result() == {"deep": [1]}
        with pytest.raises(LookupError):
            await second.get_result()
        assert sorted(await store.collections()) == sorted([one.results_collection, two.results_collection])
        assert len(await store.keys(collection=one.results_collection)) == 1
        ttl = (
            await store.ttl(
                (await store.keys(collection=one.results_collection))[0], collection=one.results_collection
            )
        )[1]
        assert 880 < ttl <= 900


async def test_the_wrapper_itself(shelf: Shelf, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    storage = ResultStorage(shelf, "c")
    await storage.keep("n", b"pvalue", 2500)
    assert shelf.puts == [("n", 2.5)]
    assert await storage.fetch("n") == b"pvalue"
    assert await storage.fetch("nothing") is None


async def test_a_limit_of_nothing_gives_what_the_storage_has(docket: Docket):
    execution = await docket.add(echo)(1)
    await work_off(docket)
    assert await execution.get_result(timeout=timedelta(0)) == 1
    assert await execution.get_result(deadline=soon(seconds=-5)) == 1


@pytest.mark.measured
async def test_a_limit_counts_for_the_storage_too(
    docket: Docket, docket_name: str, redis_url: str, shelf: Shelf
):
    execution = await docket.add(echo, key="k")(1)
    await work_off(docket)
    shelf.hangs = True
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="the result of 'k' has not come in time"):
        await execution.get_result(timeout=timedelta(milliseconds=50))
    assert time.monotonic() - began < 0.9

    def ask() -> float:
        with BlockingDocket(docket_name, redis_url, result_storage=shelf) as blocking:
            found = blocking.get_execution("k")
            assert found is not None
            began = time.monotonic()
            with pytest.raises(TimeoutError, match="the result of 'k' has not come in time"):
                found.get_result(timeout=timedelta(milliseconds=50))
            return time.monotonic() - began

    assert await asyncio.to_thread(ask) < 0.9
