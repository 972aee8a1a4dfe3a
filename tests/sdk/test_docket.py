"""The docket as its users hold it: what it refuses, and what it never confuses."""

from __future__ import annotations

import asyncio
import functools
from datetime import datetime, timedelta
from typing import Any

import pytest

from docket import BadURL, Disposition, Docket, DocketError, Execution
from docket.docket import RunningExecution
from docket.errors import SchedulingFailed
from docket.store.scripts import Call
from tests.redis_server import RedisServer
from tests.runtime.support import Gate, running, soon, work_off

LIMIT = timedelta(seconds=5)

OURS = [
    "stream", "stream:redelivered", "stream:suspects", "queue", "deferred", "dead", "generations", "workers",
    "timekeeper", "strikes", "signals", "runs", "results", "runs:other", "results:other", "progress:other",
    "worker:w/1", "tasks:note", "orphans:note", "state:other", ":", "::", "other:", "{other}",
]  # fmt: skip


@pytest.mark.parametrize("verb", ["add", "replace", "cancel", "future"])
async def test_no_key_touches_a_key_of_ours(docket: Docket, verb: str):
    ran: list[str] = []

    async def note(what: str) -> str:
        ran.append(what)
        return what

    other = await docket.add(note, key="other")("other")
    parked = await docket.add(note, key="parked", when=soon(seconds=60))("parked")
    executions = []
    for key in OURS:
        if verb == "cancel":
            await docket.cancel(key)
        elif verb == "replace":
            executions.append(await docket.replace(note, None, key)(key))
        else:
            when = soon(milliseconds=20) if verb == "future" else None
            executions.append(await docket.add(note, when=when, key=key)(key))
    assert {each.key for each in (await docket.snapshot()).future} >= {"other", "parked"}
    await docket.cancel("parked")
    await work_off(docket)
    assert await other.get_result(timeout=LIMIT) == "other"
    for execution in executions:
        assert await execution.get_result(timeout=LIMIT) == execution.key
    await parked.sync()
    assert parked.state == "cancelled"


@pytest.mark.leaves_keys("the watch takes what stands before the first colon for the name of the docket")
async def test_no_docket_touches_another(docket_name: str, redis_url: str):
    """Also if its name looks like a key of the other's."""
    ran: list[str] = []

    async def note(what: str) -> None:
        ran.append(what)

    async with Docket(docket_name, redis_url) as outer:
        try:
            inner = Docket(f"{docket_name}:runs", redis_url)
        except ValueError:
            return  # such a name is refused: that is as good
        async with inner:
            await inner.add(note, key="k")("inner")
            await outer.add(note, key="stream")("outer")
            await outer.cancel("queue")
            await work_off(outer)
            await work_off(inner)
    assert sorted(ran) == ["inner", "outer"]


async def test_a_key_of_a_megabyte_works(docket: Docket):
    async def note() -> str:
        return "done"

    key = "k" * (1 << 20)
    execution = await docket.add(note, key=key)()
    assert (await docket.add(note, key=key)()).disposition is Disposition.ALREADY_SCHEDULED
    await work_off(docket)
    assert await execution.get_result(timeout=LIMIT) == "done"


@pytest.mark.parametrize("key", ["", None, 5, b"bytes", "\ud800"])
async def test_what_cannot_be_a_key_is_refused_at_the_caller(docket: Docket, key):
    async def note() -> None: ...

    if key is None:
        with pytest.raises((TypeError, ValueError)):
            docket.replace(note, None, key)  # type: ignore[arg-type]
        return
    with pytest.raises((TypeError, ValueError), match="expected"):
        docket.add(note, key=key)
    with pytest.raises((TypeError, ValueError), match="expected"):
        docket.replace(note, None, key)


@pytest.mark.parametrize("name", ["", "\ud800"])
async def test_what_cannot_be_a_task_name_is_refused_at_the_caller(docket: Docket, name: str):
    with pytest.raises((TypeError, ValueError), match="expected"):
        docket.add(name)


@pytest.mark.parametrize("thing", [5, object(), None])
async def test_what_cannot_be_a_task_is_refused_at_the_caller(docket: Docket, thing):
    with pytest.raises(TypeError):
        await docket.add(thing)()


async def test_a_naive_moment_is_refused_before_the_arguments_are_given(docket: Docket):
    async def note() -> None: ...

    for refused in (
        lambda: docket.add(note, when=datetime(2030, 1, 1)),
        lambda: docket.replace(note, datetime(2030, 1, 1), "k"),
        lambda: docket.call(note, when=datetime(2030, 1, 1)),
        lambda: docket.add("unheard of", when=datetime(2030, 1, 1)),
    ):
        with pytest.raises(TypeError, match="time zone"):
            refused()


@pytest.mark.parametrize("when", ["x", timedelta(seconds=5), 5])
async def test_what_is_no_moment_is_refused_before_the_arguments_are_given(docket: Docket, when: Any):
    async def note() -> None: ...

    for refused in (
        lambda: docket.add(note, when=when),
        lambda: docket.replace(note, when, "k"),
        lambda: docket.call(note, when=when),
    ):
        with pytest.raises(TypeError, match="expected when to be a datetime, got"):
            refused()


@pytest.mark.parametrize("verb", ["cancel", "get_execution", "why", "retry_dead"])
async def test_a_key_that_utf8_cannot_carry_is_refused_with_the_same_sentence(docket: Docket, verb: str):
    with pytest.raises(ValueError, match=r"expected text that UTF-8 can carry, got '\\ud800'") as caught:
        await getattr(docket, verb)("\ud800")
    assert not isinstance(caught.value, UnicodeError)
    assert await docket.get_execution("\udcff") is None


async def test_an_execution_can_be_scheduled_like_a_call(docket: Docket):
    """With the same function, arguments, key and moment, and only while no execution of that key is there."""
    ran: list[tuple[int, str]] = []

    async def note(number: int, text: str = "") -> None:
        ran.append((number, text))

    when = soon(milliseconds=20)
    first = await docket.add(note, when=when, key="k")(1, text="x")
    assert (await docket.schedule(first)).disposition is Disposition.ALREADY_SCHEDULED
    await work_off(docket)
    again = await docket.schedule(first)
    assert again.disposition is Disposition.SCHEDULED and again.generation > first.generation
    assert (again.key, again.function_name, again.when) == ("k", "note", when)
    await work_off(docket)
    found = await docket.get_execution("k")
    assert found is not None
    await docket.schedule(found)
    await work_off(docket)
    assert ran == [(1, "x")] * 3
    with pytest.raises(TypeError, match="expected an execution, got 'k'"):
        await docket.schedule("k")  # type: ignore[arg-type]


async def test_arguments_that_cannot_be_pickled_are_named(docket: Docket):
    import threading

    async def takes(a: int, b: object, *rest: object, c: object = None, **more: object) -> None: ...

    lock = threading.Lock()
    for call, parameter in (
        (lambda: docket.add(takes)(1, lock), "'b'"),
        (lambda: docket.add(takes)(1, 2, c=lock), "'c'"),
        (lambda: docket.add(takes)(1, 2, extra=lock), "'extra'"),
        (lambda: docket.add(takes)(1, {"deep": [lock]}), "'b'"),
        (lambda: docket.add("by name")(1, lock), "2"),
        (lambda: docket.add_many([docket.call(takes)(1, 2), docket.call(takes)(1, lock)]), "'b'"),
    ):
        with pytest.raises(TypeError, match=parameter):
            await call()
    assert (await docket.snapshot()).total_tasks == 0


@pytest.mark.parametrize("attribute", ["stream", "queue", "runs"])
async def test_something_foreign_at_our_key_is_a_clear_error_that_names_the_key(
    docket: Docket, attribute: str
):
    async def note() -> None: ...

    name = docket.keys.runs("k") if attribute == "runs" else getattr(docket.keys, attribute)
    async with docket.redis() as redis:
        await redis.set(name, "foreign", ex=30)
    with pytest.raises(DocketError) as caught:
        await docket.add(note, key="k", when=soon(seconds=60) if attribute == "queue" else None)()
    assert isinstance(caught.value, SchedulingFailed) and (
        "'k'" in str(caught.value) or name in str(caught.value)
    )
    async with docket.redis() as redis:
        await redis.delete(name)
    assert (await docket.add(note, key="k")()).disposition is Disposition.SCHEDULED
    await docket.clear()


async def test_a_full_redis_is_a_clear_error(own_redis: RedisServer):
    async def note() -> None: ...

    async with Docket(name="full", url=own_redis.url) as docket, docket.redis() as redis:
        await docket.add(note)()
        await redis.execute_command("CONFIG", "SET", "maxmemory", "1mb")
        with pytest.raises(SchedulingFailed, match="cannot schedule 'k': Redis has reached its maxmemory"):
            await docket.add(note, key="k")()
        [refused] = await docket.add_many([docket.call(note, key="k")()])
        assert repr(refused) == "<Execution note 'k' not scheduled: failed>"
        await redis.execute_command("CONFIG", "SET", "maxmemory", "0")
        assert repr(await docket.add(note, key="k")()) == "<Execution note 'k' queued>"


async def test_one_foreign_key_does_not_keep_a_batch_from_being_scheduled(docket: Docket):
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    async with docket.redis() as redis:
        await redis.set(docket.keys.runs("k3"), "foreign", ex=30)
    executions = await docket.add_many([docket.call(note, key=f"k{number}")(number) for number in range(6)])
    assert [each.disposition for each in executions].index(Disposition.FAILED) == 3
    assert isinstance(executions[3].schedule_exception, SchedulingFailed)
    assert sum(each.disposition is Disposition.SCHEDULED for each in executions) == 5
    await work_off(docket)
    assert sorted(ran) == [0, 1, 2, 4, 5]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "http://localhost",
        "redis://localhost:0",
        "redis://localhost:x",
        "redis://localhost/abc",
        "redis://[::1",
        None,
        5,
        "memcached://x",
    ],
)
def test_a_bad_url_is_refused_at_once(url):
    with pytest.raises(BadURL):
        Docket(url=url)


def test_a_bad_url_does_not_show_its_password():
    for url in ("http://user:hunter2@host/0", "redis://:hunter2@host:0/0", "redis://:hunter2@host/abc"):
        with pytest.raises(BadURL) as caught:
            Docket(url=url)
        assert "hunter2" not in str(caught.value)


async def test_a_wrong_password_is_one_clear_error(own_redis):
    import redis

    with redis.Redis(unix_socket_path=own_redis.socket_path) as client:
        client.config_set("requirepass", "right")
    from docket import AuthenticationFailed

    for url in (own_redis.url, own_redis.url.replace("unix://", "unix://:wrong@")):
        async with Docket(url=url) as docket:
            with pytest.raises(AuthenticationFailed) as caught:
                await docket.add("trace")("x")
            assert "wrong" not in str(caught.value).split("refused")[0]
    async with Docket(url=own_redis.url.replace("unix://", "unix://:right@")) as docket:
        await docket.add("trace", key="k")("x")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": ""}, "name"),
        ({"heartbeat_interval": timedelta(0)}, "heartbeat_interval"),
        ({"missed_heartbeats": 0}, "missed_heartbeats"),
        ({"execution_ttl": timedelta(seconds=-1)}, "execution_ttl"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=f"expected .*{sentence}"):
        Docket(**options)


async def test_a_docket_can_be_entered_again_but_not_twice(docket_name: str, redis_url: str):
    docket = Docket(docket_name, redis_url)
    for number in range(2):
        async with docket:
            with pytest.raises(RuntimeError, match="twice"):
                await docket.__aenter__()
            await docket.add("trace", key=f"k{number}")("x")
    async with docket:
        assert await docket.clear() == 2


async def test_tasks_of_every_kind_are_taken(docket: Docket):
    class Callable:
        async def __call__(self, number: int) -> int:
            return number + 1

    class SyncCallable:
        def __call__(self, number: int) -> int:
            return number + 2

    class Holder:
        async def method(self, number: int) -> int:
            return number + 3

        @staticmethod
        def static(number: int) -> int:
            return number + 4

    async def base(offset: int, number: int) -> int:
        return number + offset

    def decorated(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    @decorated
    async def wrapped(number: int) -> int:
        return number + 6

    docket.register(Callable(), names=["callable"])
    docket.register(SyncCallable(), names=["sync callable"])
    docket.register(Holder().method, names=["method"])
    docket.register(Holder.static, names=["static"])
    docket.register(functools.partial(base, 5), names=["partial"])
    docket.register(wrapped, names=["wrapped"])
    names = ["callable", "sync callable", "method", "static", "partial", "wrapped"]
    executions = [await docket.add(name)(10) for name in names]
    await work_off(docket)
    assert [await each.get_result(timeout=LIMIT) for each in executions] == [11, 12, 13, 14, 15, 16]


async def test_generators_cannot_be_tasks(docket: Docket):
    def generates():
        yield 1

    async def generates_too():
        yield 1

    for function in (generates, generates_too):
        with pytest.raises(TypeError, match="generator"):
            docket.register(function)


async def test_the_list_of_tasks_is_a_copy(docket: Docket):
    docket.tasks.clear()
    assert "trace" in docket.tasks


async def test_a_plain_client_is_at_hand(docket: Docket):
    async with docket.redis() as redis:
        assert await redis.ping() is True
        await redis.set(f"{docket.name}:results:x", b"v", ex=5)
        assert await redis.get(f"{docket.name}:results:x") == b"v"


async def test_clear_keeps_what_runs_and_reaches_everything_else(docket: Docket):
    await docket.add_many([docket.call("trace")("x") for _ in range(2500)])
    await docket.add_many([docket.call("trace", when=soon(seconds=60))("x") for _ in range(2500)])
    assert await docket.clear() == 5000
    assert (await docket.snapshot()).total_tasks == 0


async def test_a_snapshot_of_thousands_is_whole(docket: Docket):
    await docket.add_many([docket.call("trace", key=f"q{number}")("x") for number in range(1700)])
    await docket.add_many(
        [
            docket.call("trace", key=f"s{number}", when=soon(seconds=60 + number))("x")
            for number in range(1700)
        ]
    )
    snapshot = await docket.snapshot()
    assert snapshot.total_tasks == 3400
    assert len({each.key for each in snapshot.future}) == 3400
    assert [each.when for each in snapshot.future] == sorted(each.when for each in snapshot.future)
    await docket.clear()


async def test_two_clients_that_add_one_key_at_once_make_one_execution(
    docket: Docket, docket_name: str, redis_url: str
):
    async with Docket(docket_name, redis_url) as other:
        for turn in range(30):
            both = await asyncio.gather(
                docket.add("trace", key=f"k{turn}")("x"), other.add("trace", key=f"k{turn}")("x")
            )
            assert sorted(each.disposition for each in both) == ["already_scheduled", "scheduled"]
    assert await docket.clear() == 30


async def test_a_batch_is_bounded_in_bytes(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    """Redis closes the connection of whoever sends more than a gigabyte at once."""
    sizes: list[int] = []
    ask = docket.store.ask

    async def measured(request):
        if isinstance(request, Call):
            sizes.append(sum(len(each) for each in request.arguments if isinstance(each, bytes)))
        return await ask(request)

    monkeypatch.setattr(docket.store, "ask", measured)
    await docket.add_many([docket.call("echo", key=f"k{n}")(b"x" * (1 << 20)) for n in range(100)])
    assert sum(size >> 20 for size in sizes) >= 100
    assert max(sizes) <= 64 << 20
    assert await docket.clear() == 100


async def test_what_runs_is_a_running_execution(docket: Docket):
    gate = Gate()
    docket.register(gate, names=["gate"])
    await docket.add("gate", key="k")("x")
    await docket.add("trace", when=soon(hours=1), key="later")("x")
    async with running(docket, name="anna"):
        await gate.has_begun()
        (found,) = (await docket.snapshot()).running
        assert isinstance(found, RunningExecution) and isinstance(found, Execution)
        assert found.worker == "anna" and found.started == found.started_at is not None
        assert not any(isinstance(each, RunningExecution) for each in (await docket.snapshot()).future)
        gate.open.set()
        await found.get_result(timeout=timedelta(seconds=5))
    await docket.cancel("later")
