"""Whether a docket was ever used, and which others its Redis holds: behind a mistyped name there is always nothing."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from redis import RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from docket.cli.printing import printable
from docket.errors import DocketError
from docket.store.keys import Keys, name_behind
from docket.store.requests import read
from docket.sync import Docket

_ROUNDS, _PAGE = 20, 1000
"""How far the key space is searched: an error message is not worth more of Redis's time."""
_SIMILAR = 0.7
_MOST_NAMED = 5


def hint(docket: Docket) -> str:
    """What there is to say about the name of an empty docket; an empty text if it has been used before, or is alone."""
    try:
        return _hint(docket, cutoff=0.0)
    except (DocketError, RedisError, RedisClusterException):
        return ""  # it is about another error, or none: it must not become one


def suspicion(docket: Docket) -> str:
    """The same, but only if there is a docket whose name is nearly this one."""
    try:
        return _hint(docket, cutoff=_SIMILAR)
    except (DocketError, RedisError, RedisClusterException):
        return ""


def _hint(docket: Docket, *, cutoff: float) -> str:
    keys = docket.keys
    used = docket.store.perform(read("EXISTS", keys.generations, keys.known, keys.strikes))
    others = [] if used else _others(docket)
    said = f"nothing was ever done with a docket named '{printable(docket.name)}' there"
    if similar := get_close_matches(docket.name, others, n=3, cutoff=_SIMILAR):
        return f"{said}; did you mean {_listed(similar, ' or ')}?"
    if others and not cutoff:
        return f"{said}, but with {_listed(others[:_MOST_NAMED], ', ')}"
    return ""


def _listed(names: list[str], between: str) -> str:
    return between.join(f"'{printable(each)}'" for each in names)


def _others(docket: Docket) -> list[str]:
    with docket.redis() as client:
        return sorted({name for node in _nodes(client) for name in _dockets_on(node)})


def _nodes(client: Any) -> list[Any]:
    """A docket lies whole on one node of a cluster, but its neighbours may lie on any other."""
    if not isinstance(client, RedisCluster):
        return [client]
    cluster: Any = client
    return [cluster.get_redis_connection(node) for node in cluster.get_primaries()]


def _dockets_on(node: Any) -> set[str]:
    pattern = Keys("*").generations
    found: set[str] = set()
    cursor = 0
    for _ in range(_ROUNDS):
        cursor, names = node.execute_command("SCAN", cursor, "MATCH", pattern, "COUNT", _PAGE)
        found |= {_docket_of(key.decode(errors="replace")) for key in names}
        if int(cursor) == 0:
            break
    return found


def _docket_of(key: str) -> str:
    return name_behind(key.rpartition(":")[0])
