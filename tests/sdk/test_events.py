"""Following an execution: the picture it begins with and the events after it fit together without a seam."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import redis

from chaos.fleets import Watched
from chaos.proxy import LossyProxy
from docket import ConnectionFailed, Docket, Progress, ResultUnavailable, Retry, clock
from docket.execution import ExecutionProgress, ProgressEvent, StateEvent
from docket.store import scripts
from docket.sync import Docket as BlockingDocket
from tests.redis_server import RedisServer
from tests.runtime.support import Gate, running, until, work_off

ENDED = ("completed", "failed", "cancelled")


def plain(event: Any) -> dict[str, Any]:
    return json.loads(json.dumps(event))


class History:
    """Everything that Redis published about one key, as a plain subscriber hears it."""

    def __init__(self, server: RedisServer, docket: str, key: str) -> None:
        self.events: list[dict[str, Any]] = []
        self._client = redis.Redis(unix_socket_path=server.socket_path)
        self._pubsub: Any = self._client.pubsub()
        self._pubsub.subscribe(f"{docket}:state:{key}", f"{docket}:progress:{key}")
        for _ in range(2):
            assert self._pubsub.get_message(timeout=5)["type"] == "subscribe"
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not (self.events and self.events[-1].get("state") in ENDED):
            message = self._pubsub.get_message(timeout=10)
            assert message is not None
            self.events.append(json.loads(message["data"]))
        self._pubsub.close()
        self._client.close()

    def complete(self) -> list[dict[str, Any]]:
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.events


def assert_it_fits(heard: list[dict[str, Any]], history: list[dict[str, Any]]) -> None:
    """What was heard is the last state and the last progress of some moment, and then every event since."""
    state, *rest = heard
    assert state["type"] == "state"
    if state["state"] in ENDED:
        assert not rest
        return
    progress, *changes = rest
    assert progress["type"] == "progress"
    since = len(history) - len(changes)
    assert since >= 0
    assert changes == history[since:]
    before = history[:since]
    for picture, kind in ((state, "state"), (progress, "progress")):
        last = [event for event in before if event["type"] == kind][-1:]
        if last:
            assert picture == last[0]
    if not any(event["type"] == "progress" for event in before):
        assert (progress["current"], progress["total"], progress["updated_at"]) == (0, 100, None)


@pytest.mark.parametrize("seed", range(6))
async def test_in_a_storm_nothing_is_lost_and_nothing_is_told_twice(
    docket: Docket, docket_name: str, redis_server: RedisServer, seed: int
):
    """Attempt follows attempt and report follows report while followers of both kinds come at any moment. The storm
    repeats itself: the same state and the same message come again and again."""
    chance = random.Random(seed)
    attempts, reports = 10, 20
    arrivals = sorted(chance.randrange(attempts * reports) for _ in range(40))
    followers: list[asyncio.Task[list[dict[str, Any]]]] = []
    blocking = BlockingDocket(docket_name, redis_server.url)

    async def follow() -> list[dict[str, Any]]:
        return [plain(event) async for event in execution.subscribe()]

    def follow_in_a_thread() -> list[dict[str, Any]]:
        found = blocking.get_execution("k")
        assert found is not None
        return [plain(event) for event in found.subscribe()]

    async def storm(
        progress: ExecutionProgress = Progress(), retry: Retry = Retry(attempts=attempts)
    ) -> None:
        for number in range(reports):
            while arrivals and arrivals[0] <= (retry.attempt - 1) * reports + number:
                arrivals.pop(0)
                kind = asyncio.to_thread(follow_in_a_thread) if len(arrivals) % 8 == 0 else follow()
                followers.append(asyncio.create_task(kind))
            await asyncio.gather(progress.increment(), progress.set_message(f"{number % 2}"))
        if retry.attempt < attempts:
            raise ValueError("again")

    execution = await docket.add(storm, key="k")()
    history = History(redis_server, docket_name, "k")
    with blocking:
        await work_off(docket)
        async with asyncio.timeout(10):
            everything = await asyncio.gather(*followers)
    complete = history.complete()
    assert len(complete) == attempts * (2 * reports + 3) - 1
    for heard in everything:
        assert_it_fits(heard, complete)
    assert len(everything) == 40 and sum(len(heard) > 1 for heard in everything) >= 20


async def test_a_state_that_comes_back_is_not_mistaken_for_the_one_that_was_seen(
    docket: Docket, docket_name: str, redis_server: RedisServer
):
    """Given back to the line, an execution is queued exactly as it was before: the very same event."""
    gate = Gate()
    execution = await docket.add(gate, key="k")()
    history = History(redis_server, docket_name, "k")
    followers: list[asyncio.Task[Any]] = []

    async def follow() -> list[dict[str, Any]]:
        return [plain(event) async for event in execution.subscribe()]

    for _ in range(5):
        async with running(docket):
            followers += [asyncio.create_task(follow()) for _ in range(4)]
            await gate.has_begun()
            followers += [asyncio.create_task(follow()) for _ in range(4)]
    gate.open.set()
    await work_off(docket)
    complete = history.complete()
    assert [event["state"] for event in complete] == ["running", "queued"] * 5 + ["running", "completed"]
    assert complete[1] == complete[3] == complete[5]
    for follower in followers:
        assert_it_fits(await asyncio.wait_for(follower, 5), complete)


async def test_after_a_reconnection_it_tells_what_has_changed(docket_name: str, own_redis: RedisServer):
    """Once, and nothing if nothing has."""
    async with Docket(docket_name, own_redis.url) as docket, running(docket):
        gate = Gate()
        execution = await docket.add(gate, key="k")()
        await gate.has_begun()
        told: list[dict[str, Any]] = []

        async def follow() -> None:
            async for event in execution.subscribe():
                told.append(plain(event))

        following = asyncio.create_task(follow())
        await until(lambda: len(told) == 2)
        async with docket.redis() as client:

            async def cut() -> None:
                await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

            await cut()
            await execution.progress.increment()  # while nobody listens
            await until(lambda: len(told) == 3)
            await cut()
            await asyncio.sleep(0.5)
            assert len(told) == 3  # nothing has changed
            await execution.progress.increment()
            await until(lambda: len(told) == 4)
            gate.open.set()
            await asyncio.wait_for(following, 10)
    assert [event.get("state", event.get("current")) for event in told] == ["running", 0, 1, 2, "completed"]


@pytest.mark.parametrize("skin", ["async", "blocking"])
async def test_it_goes_on_when_redis_was_away(docket_name: str, own_redis: RedisServer, skin: str):
    async with Docket(docket_name, own_redis.url) as docket:
        execution = await docket.add("trace", when=clock.now() + timedelta(hours=1), key="k")("x")
        told: list[Any] = []

        def one_by_one() -> None:
            with BlockingDocket(docket_name, own_redis.url) as blocking:
                found = blocking.get_execution("k")
                assert found is not None
                for event in found.subscribe():
                    told.append(event["type"])

        async def follow() -> None:
            async for event in execution.subscribe():
                told.append(event["type"])

        following = asyncio.create_task(asyncio.to_thread(one_by_one) if skin == "blocking" else follow())
        await until(lambda: len(told) == 2)
        await asyncio.to_thread(own_redis.stop)
        await asyncio.sleep(0.4)
        assert not following.done()
        await asyncio.to_thread(own_redis.start)
        await docket.cancel("k")
        await asyncio.wait_for(following, 10)
        assert told == ["state", "progress", "state"]


async def test_a_look_whose_reply_is_lost_is_repeated(
    own_redis: RedisServer, short_folder: Path, docket_name: str
):
    async with (
        LossyProxy(short_folder, own_redis.socket_path) as proxy,
        Docket(docket_name, proxy.url) as docket,
    ):
        execution = await docket.add("trace", key="k")("x")
        for times in (1, 2, 3):
            proxy.lose(scripts.OBSERVE, times)
            events = execution.subscribe()
            first = await asyncio.wait_for(anext(events), 10)
            second = await asyncio.wait_for(anext(events), 10)
            assert (first["type"], second["type"]) == ("state", "progress")
            assert not proxy.armed
            await events.aclose()
        await docket.clear()


async def test_events_after_reports_that_the_follower_was_slow_to_take(docket: Docket):
    """They wait for it; none is dropped."""
    gate = Gate()
    execution = await docket.add(gate, key="k")()
    async with running(docket):
        await gate.has_begun()
        events = execution.subscribe()
        told = [await anext(events), await anext(events)]
        for _ in range(500):
            await execution.progress.increment()
        gate.open.set()
        told += [event async for event in events]
    reports = [event["current"] for event in told if event["type"] == "progress"]
    assert reports == list(range(501))


async def test_the_events_have_exactly_the_documented_fields(docket: Docket):
    assert StateEvent.__required_keys__ == frozenset(
        {"type", "key", "state", "when", "worker", "started_at", "completed_at", "error"}
    )
    assert ProgressEvent.__required_keys__ == frozenset(
        {"type", "key", "current", "total", "message", "updated_at"}
    )
    awkward = 'a "key":state / ümläut\n'
    execution = await docket.add("trace", key=awkward)("x")
    events = execution.subscribe()
    for kind in (StateEvent, ProgressEvent):
        event: Any = await anext(events)
        assert event.keys() == kind.__required_keys__
        assert event["key"] == awkward
    await events.aclose()
    await docket.clear()


@pytest.mark.parametrize(
    "when",
    [
        datetime.max.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
        datetime(9999, 12, 31, 23, 59, 58, 999999, tzinfo=UTC),
        datetime(2256, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime(2255, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
    ],
)
async def test_the_moment_of_an_event_is_exact_however_far_away(docket: Docket, when: datetime):
    execution = await docket.add("trace", key="k", when=when)("x")
    event: Any = await anext(execution.subscribe())
    expected = clock.from_us(clock.to_us(when))
    assert datetime.fromisoformat(event["when"]) == expected == execution.when
    await docket.clear()


async def test_a_follower_that_leaves_leaves_nothing_behind(docket: Docket):
    execution = await docket.add("trace", key="k")("x")
    for _ in range(20):
        async for _ in execution.subscribe():
            break
    for _ in range(3):
        following = asyncio.create_task(anext(execution.subscribe()))
        await asyncio.sleep(0)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    async with docket.redis() as client:
        async with asyncio.timeout(5):
            while await client.execute_command("PUBSUB", "CHANNELS", f"{docket.name}*"):
                await asyncio.sleep(0.01)
    await docket.clear()


def test_a_thread_that_leaves_gives_its_connection_back(docket_name: str, redis_url: str):
    with BlockingDocket(docket_name, redis_url) as docket:
        execution = docket.add("trace", key="k")("x")
        for _ in range(20):
            events = execution.subscribe()
            next(events)
            events.close()
        with docket.redis() as client:
            give_up_at = (
                time.monotonic() + 5
            )  # Redis takes note of a closed connection when its loop comes round
            while client.execute_command("PUBSUB", "CHANNELS", f"{docket_name}*"):
                assert time.monotonic() < give_up_at
        docket.clear()


async def test_what_cannot_be_followed_is_said_at_once(docket: Docket, docket_name: str, redis_url: str):
    async with Docket(docket_name, redis_url, execution_ttl=timedelta(0)) as unkept:
        execution = await unkept.add("trace", key="k")("x")
        with pytest.raises(ResultUnavailable, match="execution_ttl=0"):
            await anext(execution.subscribe())
        await work_off(docket)
        with pytest.raises(ResultUnavailable, match="expired, or never existed"):
            await anext(execution.subscribe())


async def test_a_redis_that_is_not_there_is_said_at_once(docket_name: str, own_redis: RedisServer):
    async with Docket(docket_name, own_redis.url) as docket:
        execution = await docket.add("trace")("x")
        await asyncio.to_thread(own_redis.stop)
        async with asyncio.timeout(5):
            with pytest.raises(ConnectionFailed):
                await anext(execution.subscribe())


async def test_while_it_waits_it_asks_nothing(docket: Docket, docket_name: str, redis_url: str):
    """Neither a follower nor a waiter for the result, of either kind."""
    execution = await docket.add("trace", when=clock.now() + timedelta(hours=1), key="k")("x")
    told: list[str] = []

    async def follow() -> None:
        async for event in execution.subscribe():
            told.append(event["type"])

    def follow_in_a_thread() -> None:
        with BlockingDocket(docket_name, redis_url) as blocking:
            found = blocking.get_execution("k")
            assert found is not None
            for event in found.subscribe():
                told.append(event["type"])

    waiting = [
        asyncio.create_task(follow()),
        asyncio.create_task(asyncio.to_thread(follow_in_a_thread)),
        asyncio.create_task(execution.get_result()),
    ]
    await until(lambda: len(told) == 4)
    await asyncio.sleep(0.1)
    async with docket.redis() as client:

        async def calls() -> int:
            info: Any = await client.execute_command("INFO", "stats")
            return info["total_commands_processed"]

        before = await calls()
        await asyncio.sleep(0.5)
        asked = await calls() - before
        await docket.cancel("k")
    await asyncio.gather(*waiting, return_exceptions=True)
    assert asked == 1
    assert len(told) == 6


# --- events of many at once, which are only put into words where somebody hears them ------------------------------


MANY = 40


class Ear:
    """A plain subscriber of any server: every state that it hears of, by key."""

    def __init__(self, client: redis.Redis) -> None:
        self.heard: dict[str, list[str]] = {}
        self._client = client
        self._pubsub: Any = client.pubsub(ignore_subscribe_messages=True)

    def to(self, *channels: str, pattern: bool = False) -> Ear:
        (self._pubsub.psubscribe if pattern else self._pubsub.subscribe)(*channels)
        for _ in channels:
            self._pubsub.get_message(timeout=5)
        return self

    def listen(self) -> dict[str, list[str]]:
        """What has been said until now."""
        while message := self._pubsub.get_message(timeout=0.3):
            event = json.loads(message["data"])
            self.heard.setdefault(event["key"], []).append(event["state"])
        return self.heard

    def close(self) -> None:
        self._pubsub.close()
        self._client.close()


def published(client: Any) -> int:
    return int(client.info("commandstats").get("cmdstat_publish", {"calls": 0})["calls"])


async def run_many(docket: Docket) -> None:
    """Added in one script, half of them due later together, claimed and settled in a few."""

    async def nothing() -> None: ...

    docket.register(nothing)
    due = clock.now() + timedelta(milliseconds=100)
    await docket.add_many(
        [
            docket.call(nothing, key=f"many-{number}", when=due if number % 2 else None)()
            for number in range(MANY)
        ]
    )
    await work_off(docket, concurrency=MANY)


QUEUED = ["queued", "running", "completed"]
PARKED = ["scheduled", *QUEUED]


async def test_of_many_those_are_told_that_somebody_follows(docket: Docket, redis_server: RedisServer):
    client = redis.Redis(unix_socket_path=redis_server.socket_path)
    ear = Ear(client).to(*(f"{docket.name}:state:many-{number}" for number in (6, 7, MANY - 1)))
    before = published(client)
    await run_many(docket)
    assert ear.listen() == {"many-6": QUEUED, "many-7": PARKED, f"many-{MANY - 1}": PARKED}
    assert published(client) - before < MANY
    ear.close()


async def test_whoever_listens_to_a_pattern_hears_of_all(docket: Docket, redis_server: RedisServer):
    client = redis.Redis(unix_socket_path=redis_server.socket_path)
    ear = Ear(client).to(f"{docket.name}:state:*", pattern=True)
    await run_many(docket)
    assert ear.listen() == {f"many-{number}": PARKED if number % 2 else QUEUED for number in range(MANY)}
    ear.close()


async def test_whoever_listens_at_a_replica_hears_of_all_also_of_what_it_missed(
    docket_name: str, short_folder: Path
):
    servers = Watched(short_folder)
    servers.start()
    try:
        master, replica = (
            redis.Redis(port=server.port, socket_timeout=5) for server in (servers.master, servers.replica)
        )
        ear = Ear(replica).to(f"{docket_name}:state:many-6")
        async with Docket(name=docket_name, url=f"redis://127.0.0.1:{servers.master.port}/0") as docket:
            await run_many(docket)
            assert ear.listen() == {"many-6": QUEUED}
            replica.replicaof("NO", "ONE")
            before = published(master)
            await run_many(docket)
            assert published(master) - before >= 3.5 * MANY, "it may come back and ask for what it missed"
        ear.close()
        master.close()
    finally:
        servers.stop()
