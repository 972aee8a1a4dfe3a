"""The automatic watch over Redis (`tests/conftest.py`) sees what nobody will ever remove, and only that."""

from __future__ import annotations

import pytest
import redis

from chaos.leftovers import leftovers


@pytest.fixture
def client(redis_server):
    with redis.Redis(unix_socket_path=redis_server.socket_path) as client:
        yield client


@pytest.mark.leaves_keys("that is what is tested here")
def test_every_key_without_expiry_and_owner_is_named(client, docket_name):
    client.set(f"{docket_name}:results:a", "42")
    client.hset(f"{docket_name}:runs:done", mapping={"state": "completed"})
    client.hset(f"{docket_name}:runs:nothing", mapping={"x": 1})
    client.hset(f"{docket_name}:progress:a", mapping={"current": 1})
    client.hset(f"{docket_name}:worker:gone/1", mapping={"host": "x"})
    client.sadd(f"{docket_name}:tasks:gone/1", "f")
    client.sadd(f"{docket_name}:concurrency:customer:1", "a")
    client.sadd(f"{docket_name}:deferred", "done")
    client.set(f"{docket_name}:queue:more", "x")
    client.set(f"{{{docket_name}}}:locks:x", "1")
    client.set(f"{docket_name}-other:x", "1")
    assert [line.partition(" ")[0].replace(docket_name, "P") for line in leftovers(client, docket_name)] == [
        "P-other:x",
        "P:concurrency:customer:1",
        "P:deferred",
        "P:progress:a",
        "P:queue:more",
        "P:results:a",
        "P:runs:done",
        "P:runs:nothing",
        "P:tasks:gone/1",
        "P:worker:gone/1",
        "{P}:locks:x",
    ]


def test_what_expires_or_is_owned_is_fine(client, docket_name):
    client.set(f"{docket_name}:results:a", "42", ex=60)
    client.set(f"{docket_name}:generations", "1")
    client.sadd(f"{docket_name}:known", "f")
    client.zadd(f"{docket_name}:queue", {"later": 1})
    client.zadd(f"{docket_name}:dead", {"poison": 1})
    client.zadd(f"{docket_name}:workers", {"here/1": 1})
    client.xadd(f"{docket_name}:strikes", {"x": 1})
    client.xadd(f"{docket_name}:stream:suspects", {"x": 1})
    client.hset(f"{docket_name}:runs:later", mapping={"state": "scheduled"})
    client.hset(f"{docket_name}:runs:a:b", mapping={"state": "running"})
    client.hset(f"{docket_name}:runs:poison", mapping={"state": "failed"})
    client.hset(f"{docket_name}:progress:a:b", mapping={"current": 1})
    client.hset(f"{docket_name}:worker:here/1", mapping={"host": "x"})
    client.sadd(f"{docket_name}:tasks:here/1", "f")
    client.sadd(f"{docket_name}:deferred", "a:b")
    client.sadd(f"{docket_name}:orphans:f", "poison")
    assert leftovers(client, docket_name) == []


def test_the_watch_fails_a_test_and_cleans_up(pytester: pytest.Pytester, client, docket_name, redis_server):
    pytester.makeconftest(
        f"""
        import pytest
        from tests.conftest import nothing_is_left_in_redis

        class Server:
            socket_path = {redis_server.socket_path!r}

        @pytest.fixture
        def redis_server(): return Server()

        @pytest.fixture
        def docket_name(): return {docket_name!r}
        """
    )
    pytester.makepyfile(
        """
        import redis

        def test_tidy(docket_name, redis_server): pass

        def test_untidy(docket_name, redis_server):
            redis.Redis(unix_socket_path=redis_server.socket_path).set(f"{docket_name}:x", "left")
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*left in Redis without expiry and without owner*", "*:x (b'left')"])
    assert not client.keys(f"{docket_name}*")
