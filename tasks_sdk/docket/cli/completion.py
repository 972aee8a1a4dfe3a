"""What the shell can complete: names of tasks that a worker ever knew, keys of dead letters.

Each is one command to Redis. Where that would take longer than a keystroke (a Redis that is away, a server that would
have to be started) nothing is completed, and nothing is said.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import typer
from redis.exceptions import RedisError

from docket.errors import DocketError
from docket.settings import DEFAULT_NAME, DEFAULT_URL
from docket.store.blocking import BlockingStore
from docket.store.connect import OWN_SCHEMES, Address, address_of, check, keys_of, partitions_of, resolve
from docket.store.keys import Keys
from docket.store.requests import Argument, read

_PATIENCE = 0.5
"""Seconds."""
_MOST = 200


def of_tasks(context: typer.Context, incomplete: str) -> list[str]:
    """Names of tasks that begin like this."""
    return _beginning(incomplete, _asked(context, lambda keys: ("SMEMBERS", keys.known)))


def of_dead_keys(context: typer.Context, incomplete: str) -> list[str]:
    """Keys of dead letters that begin like this, among the oldest."""
    return _beginning(incomplete, _asked(context, lambda keys: ("ZRANGE", keys.dead, 0, _MOST - 1)))


def _given(context: typer.Context, parameter: str, variable: str, otherwise: str) -> str:
    """Shells complete a line that is not parsed to its end: what it leaves open comes from the environment."""
    return context.params.get(parameter) or os.environ.get(variable) or otherwise


def _asked(context: typer.Context, command: Callable[[Keys], tuple[Argument, ...]]) -> list[bytes]:
    name = _given(context, "docket", "DOCKET_NAME", DEFAULT_NAME)
    url = _given(context, "url", "DOCKET_URL", DEFAULT_URL)
    try:
        if check(url) in OWN_SCHEMES:
            return []
        whole = resolve(url, name)
        split = _read(whole, ("GET", keys_of(name, url).partitions))
        parts = partitions_of(name, url, int(split or 1))
        return [each for keys in parts for each in _read(address_of(whole, keys), command(keys))]
    except (DocketError, RedisError, ValueError):
        return []


def _read(address: Address, command: tuple[Argument, ...]) -> Any:
    store = BlockingStore(address, connections=1, socket_connect_timeout=_PATIENCE, socket_timeout=_PATIENCE)
    try:
        return store.perform(read(*command))
    finally:
        store.close()


def _beginning(incomplete: str, found: list[bytes]) -> list[str]:
    names = sorted({name.decode(errors="replace") for name in found})
    return [name for name in names if name.startswith(incomplete)][:_MOST]
