"""Deeds: work that blocks, hangs, kills, takes all memory, or is no work at all."""

from __future__ import annotations

from typing import Any

import redis

from chaos.incidents import ALL
from chaos.stage import Stage

EXHAUSTED = 250
LEAKED = 200
"""Megabytes."""


def block(stage: Stage) -> None:
    """A loop stands still: longer than the lease at times, which is renewed by others."""
    seconds = stage.dice.uniform(0.5, 2.0)
    stage.incidents.happened("block", ALL, f"{seconds:.1f}s")
    stage.load.also("block", seconds)


def block_beyond_the_lease(stage: Stage) -> None:
    seconds = stage.dice.uniform(5.5, 7.5)
    stage.incidents.happened("block", ALL, f"{seconds:.1f}s")
    stage.load.also("block", seconds)


def hang(stage: Stage) -> None:
    stage.load.also("hang")


def poison(stage: Stage) -> None:
    stage.load.also("poison", stage.dice.choice(("exit", "SIGKILL", "SIGSEGV", "SIGABRT")))


def exhaust(stage: Stage) -> None:
    stage.load.also("exhaust", EXHAUSTED)


def leak(stage: Stage) -> None:
    stage.load.also("leak", LEAKED)


def litter(stage: Stage) -> None:
    """Entries in the stream that nobody of ours has written, and records that make no sense."""
    keys, dice = stage.docket.keys, stage.dice
    name = f"garbage-{dice.getrandbits(32):08x}"
    entries: list[dict[Any, Any]] = [
        {"x": "y"},
        {b"\xff\xfe": b"\x00\x80\xff"},
        {"k": "", "g": "1"},
        {"k": name, "g": "1"},
        {"k": b"\xff\xfe\x00", "g": "one"},
        {"k": "x" * 100_000},
        {"key": "a", "function": "f", "args": b"\x80\x05", "kwargs": b""},
    ]
    stage.incidents.happened("garbage", ALL, name)
    try:
        with stage.docket.redis() as client:
            for fields in dice.sample(entries, 3):
                client.xadd(dice.choice((keys.stream, keys.redelivered, keys.suspects, keys.high)), fields)
            record = {"state": "queued", "function": "quick", "body": b"\x80\x05no pickle", "when_us": "0"}
            record |= {"generation": "1", "attempt": "1", "ttl_ms": "1000"}
            entry: Any = client.xadd(keys.stream, {"k": f"{name}-record", "g": "1"})
            client.hset(keys.runs(f"{name}-record"), mapping={**record, "entry": f"d:{entry.decode()}"})
    except redis.RedisError:
        return  # it is away or full: what is not there cannot be littered
