"""Which keys of a docket nobody will ever remove: every key needs an expiry or an owner."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import redis

INDEXES = (
    *("generations", "queue", "workers", "dead", "strikes", "stream", "known", "limited", "maximums"),
    "partitions",
)
"""One key each per docket (the line has three lanes), however much work there was."""

ALIVE = (b"scheduled", b"queued", b"running")


def leftovers(client: redis.Redis, name: str) -> list[str]:
    """The keys of every docket whose name begins with `name` that have neither, each with what it holds."""
    found: list[str] = []
    for key in sorted(keys_of(client, name)):
        if client.pttl(key) == -1 and not _Owners(client, key).has_owner():
            found.append(f"{key.decode(errors='replace')} ({_described(client, key)})")
    return found


def remove(client: redis.Redis, name: str) -> None:
    for key in keys_of(client, name):
        client.unlink(key)


def keys_of(client: redis.Redis, name: str) -> Iterator[bytes]:
    pattern = "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in name)
    for prefix in (
        pattern,
        "{" + pattern,
        "{[0-9]*:" + pattern,
    ):  # the braces of a cluster, and of partitions
        yield from client.scan_iter(match=f"{prefix}*", count=1000)


class _Owners:
    """Looks for the owner of one key."""

    def __init__(self, client: redis.Redis, key: bytes) -> None:
        self.client: Any = client
        self.key = key
        whole, mark, rest = key.partition(b"}:partition:")
        self.prefix = whole + b"}:partition"
        if not mark:
            self.prefix, _, rest = key.partition(b":")
        self.kind, _, self.of = rest.partition(b":")

    def has_owner(self) -> bool:
        match self.kind.decode(errors="replace"):
            case kind if kind in INDEXES:
                return not self.of or kind == "stream"
            case "worker" | "tasks":
                return self.is_on_the_roll(self.of)
            case "runs":
                return self.is_alive(self.of) or self.is_dead_letter(self.of)
            case "progress":
                return self.state(self.of) == b"running"
            case "concurrency":  # who holds a permit
                return all(
                    self.client.hexists(self.prefix + b":runs:" + member, "permits")
                    for member in self.client.smembers(self.key)
                )
            case "waiting" | "throttled":
                return all(self.is_alive(member) for member in self.client.zrange(self.key, 0, -1))
            case "limits":
                return all(
                    self.client.exists(self.prefix + b":concurrency:" + name)
                    or self.client.exists(self.prefix + b":waiting:" + name)
                    for name in self.client.smembers(self.key)
                )
            case "alarms":
                return all(
                    self.client.exists(self.prefix + b":throttled:" + name)
                    for name in self.client.zrange(self.key, 0, -1)
                )
            case "waiters":  # how many stand in lines
                lines = [
                    self.prefix + b":waiting:" + each
                    for each in self.client.smembers(self.prefix + b":limits")
                ]
                alarms = self.client.zrange(self.prefix + b":alarms", 0, -1)
                lines += [self.prefix + b":throttled:" + each for each in alarms]
                return int(self.client.get(self.key)) == sum(self.client.zcard(line) for line in lines)
            case "unasked":  # lines that somebody must still look at
                return all(
                    self.client.exists(
                        self.prefix + {b"c": b":waiting:", b"r": b":throttled:"}[line[:1]] + line[2:]
                    )
                    for line in self.client.smembers(self.key)
                )
            case "lifted":  # rules that are no more, and have held somebody
                return all(
                    self.client.exists(self.prefix + b":held:" + rule)
                    for rule in self.client.smembers(self.key)
                )
            case "deferred":
                return all(self.is_alive(member) for member in self.client.smembers(self.key))
            case "held":  # what a rule holds
                is_rule = self.client.xrange(self.prefix + b":strikes", self.of, self.of)
                was_rule = self.client.sismember(self.prefix + b":lifted", self.of)
                return bool(is_rule or was_rule) and all(
                    self.is_alive(member) for member in self.client.zrange(self.key, 0, -1)
                )
            case "orphans":  # dead letters that wait for a worker that knows their task
                return all(self.is_dead_letter(member) for member in self.client.smembers(self.key))
            case _:
                return False

    def state(self, execution: bytes) -> bytes | None:
        return self.client.hget(self.prefix + b":runs:" + execution, "state")

    def is_alive(self, execution: bytes) -> bool:
        return self.state(execution) in ALIVE

    def is_dead_letter(self, execution: bytes) -> bool:
        return self.client.zscore(self.prefix + b":dead", execution) is not None

    def is_on_the_roll(self, worker_id: bytes) -> bool:
        return self.client.zscore(self.prefix + b":workers", worker_id) is not None


def _described(client: Any, key: bytes) -> str:
    kind = client.type(key)
    if kind == b"hash":
        fields = sorted(client.hgetall(key).items())
        return ", ".join(f"{name.decode(errors='replace')}={value[:40]!r}" for name, value in fields)
    if kind == b"string":
        return repr(client.get(key)[:80])
    if kind == b"set":
        return f"set of {sorted(client.smembers(key))[:5]}"
    return kind.decode()
