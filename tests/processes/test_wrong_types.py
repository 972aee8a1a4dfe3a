"""Something foreign at a key of ours, under a whole service: it is named, once, and all goes on when it is gone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from docket.sync import Docket
from tests import foreign
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, Supervisor, eventually

LIMIT = timedelta(seconds=60)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("word", ["workers", "dead", "queue"])
def test_the_steward_and_the_workers_name_it_and_go_on_when_it_is_gone(
    word: str, docket: Docket, supervise: Callable[..., Supervisor], evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "1")
    docket.add(does.note, key="before")().get_result(timeout=LIMIT)
    name = f"{docket.keys.prefix}:{word}"
    said = f"the key '{name}' in Redis holds a string, where docket keeps a zset"
    with docket.redis() as redis:
        foreign.plant(redis, name, aside=f"{name}:aside")
        supervisor.logged(said)
        told = [line for line in supervisor.log().splitlines() if said in line]
        assert "Traceback" not in supervisor.log()
        if redis.exists(f"{name}:aside"):
            redis.rename(f"{name}:aside", name)
        else:
            redis.delete(name)
    assert all("Redis refuses (ForeignKey:" in line for line in told)
    docket.add(does.note, key="after")().get_result(timeout=LIMIT)
    assert supervisor.stop() == 0
    lines = [line for line in supervisor.log().splitlines() if said in line and "docket.steward" in line]
    assert len(lines) <= 1
    eventually(lambda: evidence.ran_once("after"), "it ran")
