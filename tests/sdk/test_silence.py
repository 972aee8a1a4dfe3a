"""A Redis that says nothing more and closes nothing: whoever asks is told in time, whoever listens comes back."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from chaos.proxy import LossyProxy
from docket import Docket, clock, events
from docket.store import asynchronous, listener
from docket.store.asynchronous import AsyncStore
from docket.store.blocking import _SLICE, BlockingStore  # pyright: ignore[reportPrivateUsage]
from docket.store.connect import resolve, translated
from docket.store.listener import Subscription
from docket.store.requests import SUBSCRIBED, Commands, Operation
from docket.store.scattered import AsyncScattered
from docket.sync import Docket as BlockingDocket
from tests.redis_server import RedisServer
from tests.runtime.support import Gate, running, until, work_off

PING = Commands((("PING",),))


class SilentProxy(LossyProxy):
    """`answers`: when it is set, whoever connects from now on is served. `hush` silences all who have subscribed."""

    def __init__(self, folder: Path, server: str) -> None:
        super().__init__(folder, server)
        self.accepted = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.rest = asyncio.Event()
        """While it is not set, messages are delivered by half."""
        self.rest.set()
        self._left_waiting: set[asyncio.Task[Any] | None] = set()
        self._subscribed: set[asyncio.StreamWriter] = set()
        self._hushed: set[asyncio.StreamWriter] = set()

    def never_answer(self) -> None:
        """Those who connect until `answer_again` will not be answered afterwards either."""
        self.answers = asyncio.Event()

    def answer_again(self) -> None:
        self.answers = asyncio.Event()
        self.answers.set()

    def hush(self) -> int:
        self._hushed |= self._subscribed
        return len(self._hushed)

    async def __aexit__(self, *exc_info: object) -> None:
        await super().__aexit__(*exc_info)
        for task in self._left_waiting:
            if task is not None:
                task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.add(writer)
        self._left_waiting.add(asyncio.current_task())
        with suppress(asyncio.CancelledError):
            await self.answers.wait()
            self._left_waiting.discard(asyncio.current_task())
            await super()._serve(reader, writer)

    async def _back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event
    ) -> None:
        while data := await reader.read(1 << 20):
            if b"\r\nsubscribe\r\n" in data:
                self._subscribed.add(writer)
            if b"\r\nmessage\r\n" in data and not self.rest.is_set():
                half, data = data[: len(data) // 2], data[len(data) // 2 :]
                writer.write(half)
                await self.rest.wait()
            if writer not in self._hushed:
                writer.write(data)
        writer.close()


@pytest.fixture
async def proxy(redis_server: RedisServer, short_folder: Path) -> AsyncIterator[SilentProxy]:
    async with SilentProxy(short_folder, redis_server.socket_path) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: SilentProxy) -> AsyncIterator[AsyncStore]:
    store = AsyncStore(resolve(proxy.url, "name"))
    yield store
    await store.close()


# --- who asks --------------------------------------------------------------------------------------------------------


async def outcomes(*asked: Any) -> list[Any]:
    async with asyncio.timeout(10):
        return await asyncio.gather(*asked, return_exceptions=True)


async def test_all_who_need_the_connection_wait_for_one_attempt_to_open_it(
    store: AsyncStore, proxy: SilentProxy, monkeypatch: pytest.MonkeyPatch
):
    """In a line, the tenth would be told after a hundred seconds."""
    monkeypatch.setattr(asynchronous, "REPLY_TIMEOUT", 0.5)
    proxy.never_answer()
    assert [type(each) for each in await outcomes(*(store.ask(PING) for _ in range(10)))] == [
        TimeoutError
    ] * 10
    assert proxy.accepted == 1
    proxy.answer_again()
    assert await outcomes(*(store.ask(PING) for _ in range(10))) == [[b"PONG"]] * 10
    assert proxy.accepted == 2


async def test_whoever_is_cancelled_leaves_the_attempt_to_the_others(store: AsyncStore, proxy: SilentProxy):
    proxy.never_answer()
    asked = [asyncio.create_task(store.ask(PING)) for _ in range(3)]
    await until(lambda: proxy.accepted)
    asked[0].cancel()
    await asyncio.wait(asked, timeout=0.05)
    proxy.answers.set()
    first, *others = await outcomes(*asked)
    assert isinstance(first, asyncio.CancelledError)
    assert others == [[b"PONG"]] * 2 and proxy.accepted == 1


async def test_an_attempt_that_nobody_waits_for_any_more_fails_without_a_word(
    store: AsyncStore, proxy: SilentProxy, monkeypatch: pytest.MonkeyPatch
):
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    monkeypatch.setattr(asynchronous, "REPLY_TIMEOUT", 0.2)
    proxy.never_answer()
    asked = asyncio.create_task(store.ask(PING))
    await until(lambda: proxy.accepted)
    asked.cancel()
    await outcomes(asked)
    proxy.drop_all()
    await asyncio.sleep(0.3)
    proxy.answer_again()
    assert await store.ask(PING) == [b"PONG"]
    gc.collect()
    assert complaints == []


async def test_whoever_waits_for_a_store_that_is_closed_is_told_so(store: AsyncStore, proxy: SilentProxy):
    proxy.never_answer()
    asked = asyncio.create_task(store.ask(PING))
    await until(lambda: proxy.accepted)
    closing = asyncio.create_task(store.close())
    await asyncio.wait((asked,), timeout=5)
    assert [str(each) for each in await outcomes(asked, closing)] == ["the connection was closed", "None"]


async def test_all_who_use_a_split_docket_first_ask_once_how_it_is_split(store: AsyncStore):
    answer = asyncio.Event()
    asked: list[int] = []

    def agree() -> Operation[None]:
        asked.append(len(asked))
        yield PING
        if len(asked) == 1:
            raise ValueError("not yet")

    async def ask(*_: Any) -> Any:
        await answer.wait()
        return [b"PONG"]

    store.ask = ask  # type: ignore[method-assign]
    scattered = AsyncScattered(store, {}, agree)
    waiting = [asyncio.create_task(scattered.ask(PING)) for _ in range(5)]
    await asyncio.sleep(0.05)
    answer.set()
    assert [str(each) for each in await outcomes(*waiting)] == ["not yet"] * 5
    assert await outcomes(*(scattered.ask(PING) for _ in range(5))) == [[b"PONG"]] * 5
    assert len(asked) == 2


def test_an_error_without_words_is_told_by_its_name():
    assert str(translated(TimeoutError(), "redis://h")) == "cannot reach Redis at redis://h: TimeoutError"


# --- who listens -----------------------------------------------------------------------------------------------------


async def test_a_thread_comes_back_when_its_new_subscription_is_never_answered(proxy: SilentProxy):
    blocking = BlockingStore(resolve(f"{proxy.url}?socket_timeout=0.3", "name"))
    listening = blocking.listen(("c",))
    assert await asyncio.to_thread(listening.next, 5) is SUBSCRIBED
    proxy.never_answer()
    proxy.drop_all()
    assert await asyncio.wait_for(asyncio.to_thread(listening.next, 1.0), 10) is None
    proxy.answer_again()
    assert await asyncio.wait_for(asyncio.to_thread(listening.next, 5.0), 10) is SUBSCRIBED
    listening.close()
    blocking.close()


async def test_a_thread_may_hear_nothing_for_longer_than_a_reply_may_take(proxy: SilentProxy):
    blocking = BlockingStore(resolve(f"{proxy.url}?socket_timeout=0.3", "name"))
    listening = blocking.listen(("c",))
    assert await asyncio.to_thread(listening.next, 5) is SUBSCRIBED
    assert await asyncio.to_thread(listening.next, 1.0) is None
    assert proxy.accepted == 1
    listening.close()
    blocking.close()


async def test_a_message_that_comes_in_two_parts_is_one_message(proxy: SilentProxy):
    blocking = BlockingStore(resolve(proxy.url, "name"))
    listening = blocking.listen(("c",))
    assert await asyncio.to_thread(listening.next, 5) is SUBSCRIBED
    proxy.rest.clear()
    await asyncio.to_thread(blocking.ask, Commands((("PUBLISH", "c", "x" * 100),)))
    heard = asyncio.create_task(asyncio.to_thread(listening.next, 5))
    await asyncio.wait((heard,), timeout=2 * _SLICE)
    proxy.rest.set()
    assert await heard == ("c", b"x" * 100)
    listening.close()
    blocking.close()


async def hears(subscription: Subscription, store: AsyncStore) -> None:
    """What is said on its channel reaches it."""
    await store.ask(Commands((("PUBLISH", "c", "x"),)))
    assert await subscription.next(5) == ("c", b"x")


async def test_listeners_try_again_when_their_connection_is_never_answered(
    store: AsyncStore, proxy: SilentProxy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(listener, "REPLY_TIMEOUT", 0.3)
    proxy.never_answer()
    subscription = await store.subscribe(("c",))
    await until(lambda: proxy.accepted)
    proxy.answer_again()
    assert await subscription.next(5) is SUBSCRIBED
    await hears(subscription, store)
    await subscription.close()


async def test_listeners_leave_a_connection_that_has_fallen_silent(
    store: AsyncStore, proxy: SilentProxy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(listener, "_SILENCE", 0.2)
    monkeypatch.setattr(listener, "REPLY_TIMEOUT", 0.6)
    subscription = await store.subscribe(("c",))
    assert await subscription.next(5) is SUBSCRIBED
    assert proxy.hush() == 1
    assert await subscription.next(5) is SUBSCRIBED
    await hears(subscription, store)
    await subscription.close()


async def test_listeners_keep_a_connection_on_which_there_is_nothing_to_hear(
    store: AsyncStore, proxy: SilentProxy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(listener, "_SILENCE", 0.05)
    subscription = await store.subscribe(("c",))
    assert await subscription.next(5) is SUBSCRIBED
    assert await subscription.next(0.5) is None
    await hears(subscription, store)
    assert proxy.accepted == 2  # the other one is that of the PUBLISH
    await subscription.close()


async def test_a_worker_hears_of_a_cancellation_though_its_subscription_is_silent(
    docket: Docket, docket_name: str, proxy: SilentProxy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(listener, "_SILENCE", 0.2)
    monkeypatch.setattr(listener, "REPLY_TIMEOUT", 0.6)
    endless = Gate()
    async with Docket(docket_name, proxy.url) as behind, running(behind):
        await behind.add(endless, key="k")()
        await endless.has_begun()
        await until(lambda: proxy.hush() == 1)
        await asyncio.sleep(0.3)  # it has looked what there was to hear before it had subscribed
        await docket.cancel("k")
        await until(lambda: not endless.inside, 10)


@pytest.mark.parametrize("skin", ["async", "blocking"])
async def test_a_follower_tells_the_end_that_a_silent_subscription_does_not_bring(
    docket: Docket, docket_name: str, proxy: SilentProxy, monkeypatch: pytest.MonkeyPatch, skin: str
):
    monkeypatch.setattr(events, "_LOOK_AGAIN", 0.3)
    await docket.add("trace", key="k", when=clock.now() + timedelta(hours=1))("x")
    told: list[str] = []

    def follow_in_a_thread() -> None:
        with BlockingDocket(docket_name, proxy.url) as blocking:
            found = blocking.get_execution("k")
            assert found is not None
            told.extend(event.get("state", event["type"]) for event in found.subscribe())

    async def follow() -> None:
        async with Docket(docket_name, proxy.url) as behind:
            found = await behind.get_execution("k")
            assert found is not None
            told.extend([event.get("state", event["type"]) async for event in found.subscribe()])

    following = asyncio.create_task(follow() if skin == "async" else asyncio.to_thread(follow_in_a_thread))
    await until(lambda: proxy.hush() == 1)
    await docket.replace("trace", None, "k")("x")
    await work_off(docket)
    await asyncio.wait_for(following, 10)
    assert told[-1] == "completed" and len(told) == len(set(told))
