"""With the users of `supervisor/deploy/redis-users.acl` everything works; with less it is said what is forbidden."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis

from docket import ConcurrencyLimit, Cooldown, Docket, Perpetual, Progress, RateLimit, Retry, Worker
from docket.errors import AuthenticationFailed
from docket.execution import ExecutionProgress
from docket.store import scripts
from docket.store.refusals import Forbidden
from docket.sync import Docket as BlockingDocket
from tests.guards.tree import REPOSITORY
from tests.redis_server import RedisServer
from tests.runtime.support import soon, until, work_off
from tests.supervisor.service import source_path

TEMPLATE = (REPOSITORY / "supervisor/deploy/redis-users.acl").read_text()
USERS = {match[1]: match[2].split() for match in re.finditer(r"^user (shop-\w+) (.*)$", TEMPLATE, re.M)}

OF_CLIENTS = {
    scripts.SCHEDULE, scripts.CANCEL, scripts.CLEAR, scripts.RETRY_DEAD, scripts.PURGE_DEAD, scripts.STRIKE,
    scripts.STRIKES, scripts.RELEASE, scripts.MAXIMUM, scripts.LOOK, scripts.OBSERVE,
}  # fmt: skip
FOR_TESTS = {scripts.ADVANCE}
"""Moves time in a test's own Redis: no user of a service may do that."""


def commands_in(chosen: set[scripts.Script]) -> set[str]:
    found: set[str] = set()
    for script in chosen:
        for command, following in re.findall(
            r'(?:redis\.p?call|gently)\("(\w+)"(?:, "(\w+)")?', script.source
        ):
            parts = [command, following] if command in ("XGROUP", "XINFO", "PUBSUB", "INFO") else [command]
            found.add("|".join(parts).lower())
    return found


def granted(user: str) -> set[str]:
    return {word.removeprefix("+") for word in USERS[user] if word.startswith("+")}


def test_the_template_names_what_the_scripts_need():
    assert commands_in(OF_CLIENTS) <= granted("shop-client")
    assert commands_in(set(scripts.ALL) - FOR_TESTS) <= granted("shop-worker")


def test_the_template_grants_no_more_than_somebody_asks_for():
    source = "\n".join(
        path.read_text()
        for folder in ("tasks_sdk", "runtime")
        for path in (REPOSITORY / folder).rglob("*.py")
        if path.name != "neighbours.py"
    )
    for word in granted("shop-worker") - commands_in(set(scripts.ALL)):
        command, _, sub = word.upper().partition("|")
        used = rf'"{command}", "{sub}"' if sub else rf'"{command}"|\.{command.lower()}\('
        assert re.search(used, source) or word == "select", f"nobody asks for {word}"
    assert granted("shop-client") < granted("shop-worker")


def test_no_user_may_do_what_is_dangerous():
    for user, words in USERS.items():
        assert "-@all" in words and "resetchannels" in words and "~shop:*" in words and "&shop:*" in words, (
            user
        )
        assert not granted(user) & {
            "keys",
            "flushdb",
            "flushall",
            "config",
            "acl",
            "script",
            "function",
            "eval_ro",
        }
        assert not any(word.startswith("+@") for word in words), user


@pytest.fixture
def guarded(own_redis: RedisServer) -> Iterator[redis.Redis]:
    """A server with these users; the client is its administrator."""
    with redis.Redis(unix_socket_path=own_redis.socket_path) as admin:
        for user, rules in USERS.items():
            admin.execute_command("ACL", "SETUSER", user, *rules)
        admin.execute_command("ACL", "LOG", "RESET")
        yield admin


def url(server: RedisServer, user: str) -> str:
    password = next(word for word in USERS[user] if word.startswith(">"))[1:]
    return f"unix://{user}:{password}@{server.socket_path}"


def refused(admin: redis.Redis) -> list[str]:
    """What Redis has refused to anybody; redis-py's own introduction of itself is not asked for by us."""
    log: Any = admin.execute_command("ACL", "LOG")
    entries = [
        each if isinstance(each, dict) else dict(zip(each[::2], each[1::2], strict=True)) for each in log
    ]
    said = [{_text(name): _text(value) for name, value in entry.items()} for entry in entries]
    return [
        f"{each['username']}: {each['object']}"
        for each in said
        if each["object"] not in ("client", "client|setinfo")
    ]


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


async def note(what: Any = None, progress: ExecutionProgress = Progress()) -> Any:
    await progress.set_total(10)
    await progress.increment(10)
    return what


async def limited(
    customer: int,
    one: ConcurrencyLimit = ConcurrencyLimit("customer", 1),
    rate: RateLimit = RateLimit(100, per=timedelta(seconds=1)),
) -> None: ...


async def cooled(what: int, cooldown: Cooldown = Cooldown(timedelta(seconds=1))) -> None: ...


async def again(turn: int = 0, perpetual: Perpetual = Perpetual()) -> None:
    perpetual.perpetuate(turn + 1)
    if turn == 3:
        perpetual.cancel()


async def flaky(retry: Retry = Retry(attempts=2)) -> int:
    if retry.attempt == 1:
        raise ValueError("once")
    return 7


TASKS = (note, limited, cooled, again, flaky)


async def everything_a_client_does(docket: Docket) -> None:
    await docket.add(note, key="k")(1)
    await docket.add(note, soon(days=1), key="later")(2)
    await docket.replace(note, soon(days=2), key="later")(3)
    await docket.add_many([docket.call(limited)(i % 2) for i in range(10)])
    for task in (cooled, cooled):
        await docket.add(task)(1)
    await docket.add(again)()
    await docket.add(flaky, key="flaky")()
    await docket.add(note, key="low", priority="low")(1)
    await docket.add("unknown", key="unknown")()
    await docket.strike(note, "what", "==", 13, hold=True)
    await docket.add(note, key="held")(what=13)
    await docket.set_limit("customer:1", 2)
    await docket.reset_limit("customer:1")
    await docket.limits()
    await docket.snapshot()
    for key in ("k", "later", "held"):
        await docket.why(key)
    await docket.workers()
    execution = await docket.get_execution("k")
    assert execution is not None
    await execution.sync()


async def test_a_client_and_a_worker_do_everything_as_these_users(
    own_redis: RedisServer, guarded: redis.Redis
):
    async with (
        Docket("shop", url(own_redis, "shop-client")) as client,
        Docket("shop", url(own_redis, "shop-worker")) as docket,
    ):
        for each in (client, docket):
            for task in TASKS:
                each.register(task)
        await everything_a_client_does(client)
        await client.cancel("later")
        await work_off(docket)
        found = await client.get_execution("flaky")
        assert found is not None and await found.get_result() == 7
        async for event in found.subscribe():
            assert event
        (dead,) = await client.dead_letters()
        assert dead.key == "unknown" and await client.retry_dead("unknown")
        await client.cancel("unknown")
        assert await client.restore(note, "what", "==", 13)
        await client.clear()
        await client.purge_dead()
        assert [each.key for each in await client.dead_letters()] == []
        with BlockingDocket("shop", url(own_redis, "shop-client")) as blocking:
            assert blocking.add(note, soon(days=1), key="b")(1).disposition == "scheduled"
            blocking.snapshot()
            blocking.cancel("b")
    assert refused(guarded) == []


async def test_a_worker_says_what_its_user_may_not_and_goes_on_when_it_may(
    own_redis: RedisServer, guarded: redis.Redis, caplog: pytest.LogCaptureFixture
):
    async with Docket("shop", url(own_redis, "shop-client")) as docket:
        docket.register(note)
        execution = await docket.add(note)(1)
        async with Worker(docket) as worker:
            running = asyncio.create_task(worker.run_forever())
            try:
                await until(
                    lambda: "Redis refuses (Forbidden: Redis does not allow this to its user" in caplog.text
                )
                guarded.execute_command("ACL", "SETUSER", "shop-client", *USERS["shop-worker"])
                assert await asyncio.wait_for(execution.get_result(), 10) == 1
            finally:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running


async def test_another_docket_is_forbidden_and_said_so(own_redis: RedisServer, guarded: redis.Redis):
    async with Docket("bank", url(own_redis, "shop-client")) as docket:
        for operation in (
            docket.add(note)(1),
            docket.snapshot(),
            docket.get_execution("k"),
            docket.cancel("k"),
        ):
            with pytest.raises(Forbidden, match="does not allow this to its user"):
                await operation
    with BlockingDocket("bank", url(own_redis, "shop-worker")) as blocking, pytest.raises(Forbidden):
        blocking.add(note)(1)


def test_a_command_says_it_in_one_line(own_redis: RedisServer, guarded: redis.Redis):
    done = subprocess.run(
        [sys.executable, "-m", "docket", "snapshot", "--docket", "bank"],
        env={**os.environ, "PYTHONPATH": source_path(), "DOCKET_URL": url(own_redis, "shop-worker")},
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "does not allow this to its user" in done.stderr and "CHANGE-ME" not in done.stderr


async def test_a_wrong_password_is_no_question_of_permissions(own_redis: RedisServer, guarded: redis.Redis):
    async with Docket("shop", f"unix://shop-client:wrong-secret@{own_redis.socket_path}") as docket:
        with pytest.raises(AuthenticationFailed) as caught:
            await docket.snapshot()
    assert "wrong-secret" not in str(caught.value)


class Vault(redis.CredentialProvider):
    def __init__(self, *answers: str) -> None:
        self.answers = answers
        self.asked = 0

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        self.asked += 1
        return self.answers  # type: ignore[return-value]


async def test_credentials_may_come_from_a_provider(own_redis: RedisServer, guarded: redis.Redis):
    vault = Vault("shop-worker", "CHANGE-ME-2")
    async with Docket("shop", own_redis.url, credential_provider=vault) as docket:
        docket.register(note)
        execution = await docket.add(note)(1)
        await work_off(docket)
        assert await execution.get_result() == 1
    with BlockingDocket("shop", own_redis.url, credential_provider=vault) as blocking:
        assert blocking.get_execution(execution.key) is not None
    assert vault.asked > 2 and refused(guarded) == []


async def test_a_provider_that_knows_nothing_good_is_refused(own_redis: RedisServer, guarded: redis.Redis):
    async with Docket("shop", own_redis.url, credential_provider=Vault("shop-worker", "wrong")) as docket:
        with pytest.raises(AuthenticationFailed):
            await docket.snapshot()


@pytest.mark.parametrize(
    "two", ["redis://u:hunter2@h/0", "redis://:hunter2@h", "redis://h?password=hunter2", "redis://u@h"]
)
def test_a_provider_beside_credentials_in_the_url_is_refused(two: str):
    for kind in (Docket, BlockingDocket):
        with pytest.raises(ValueError, match="got both") as caught:
            kind("shop", two, credential_provider=Vault("a", "b"))
        assert "hunter2" not in str(caught.value)


async def test_servers_of_our_own_ask_no_provider():
    vault = Vault("nobody", "nothing")
    async with Docket("shop", "memory://vault", credential_provider=vault) as docket:
        await docket.snapshot()
    assert vault.asked == 0


def test_what_is_no_provider_is_refused_without_showing_it():
    with pytest.raises(TypeError, match="got a str") as caught:
        Docket(credential_provider="hunter2")  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)
