"""A supervised service with signing keys and a password: signed from end to end, and no secret is shown anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta

import psutil
import pytest
import redis

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.evidence import tasks
from tests.processes.fleet import Evidence, Supervisor, eventually
from tests.redis_server import RedisServer

Supervise = Callable[..., Supervisor]
LIMIT = timedelta(seconds=60)
PASSWORD, KEY, OLD_KEY = "hunter2hunter2", "correct-horse-battery", "staple-of-last-year"
SECRETS = (PASSWORD, KEY, OLD_KEY)


@pytest.fixture
def guarded_url(own_redis: RedisServer) -> str:
    with redis.Redis(unix_socket_path=own_redis.socket_path) as admin:
        admin.execute_command("ACL", "SETUSER", "shop", "on", f">{PASSWORD}", "~*", "&*", "+@all")
        admin.execute_command("ACL", "SETUSER", "default", "off")
    return f"unix://shop:{PASSWORD}@{own_redis.socket_path}"


@pytest.fixture
def docket(guarded_url: str, docket_name: str) -> Iterator[Docket]:
    with Docket(name=docket_name, url=guarded_url, signing_keys=[KEY, OLD_KEY]) as docket:
        for task in tasks:
            docket.register(task)
        yield docket


def test_what_a_service_settles_is_signed_also_by_the_steward_and_secrets_are_nowhere(
    docket: Docket, guarded_url: str, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise(
        *("--processes", "2", "--health-port", "0"),
        url="",
        DOCKET_URL=guarded_url,
        DOCKET_SIGNING_KEYS=f"{KEY},{OLD_KEY}",
    )
    with Docket(name=docket.name, url=guarded_url, signing_keys=[]) as stranger:
        stranger.add(does.note, key="unsigned")()
    late = docket.add(does.sleep_for_ever_within_a_second, key="late")()
    good = docket.add(does.note, key="good")()
    good.get_result(timeout=LIMIT)
    with pytest.raises(TimeoutError, match="it ran longer than 0:00:01"):
        late.get_result(timeout=LIMIT)
    (dead,) = eventually(docket.dead_letters, "a dead letter")
    assert dead.key == "unsigned" and "not signed" in (dead.error or "") and not evidence.began("unsigned")

    shown = [supervisor.log(), *supervisor.titles("worker")]
    for pid in (supervisor.pid, *supervisor.everybody()):
        try:
            shown += psutil.Process(pid).cmdline()
        except psutil.NoSuchProcess:
            continue
    for command in (["status"], ["status", "--json"]):
        told = supervisor.told(*command, "--docket", docket.name)
        assert told.returncode == 0
        shown += [told.stdout, told.stderr]
    for path in ("/status", "/metrics", "/ready"):
        shown.append(json.dumps(supervisor.asked(path), default=str))
    for record in docket.snapshot().dead:
        shown.append(repr(record) + (record.error or ""))
    assert [secret for secret in SECRETS if any(secret in text for text in shown)] == []
