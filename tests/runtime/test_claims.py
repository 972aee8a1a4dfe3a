"""The book of what a worker holds."""

from __future__ import annotations

import asyncio

import pytest

from docket.message import Claimed
from docket_runtime.claims import Claims, Flight


def claimed(entry: str) -> Claimed:
    return Claimed(entry, "key", "f", b"", 0, 1)


def test_each_flight_has_a_place_of_its_own_and_gives_it_back():
    claims = Claims(3)
    flights = [claims.take(claimed(f"d:{number}-0")) for number in range(3)]
    assert sorted(flight.place for flight in flights) == [0, 1, 2]
    assert claims.free == 0 and len(claims) == 3
    with pytest.raises(IndexError):
        claims.take(claimed("d:9-0"))
    claims.release(flights[1])
    assert claims.take(claimed("d:4-0")).place == flights[1].place
    assert "d:4-0" in claims and "d:1-0" not in claims


def test_the_place_that_has_been_free_the_longest_is_taken():
    """What ended in a place must be settled before another execution is noted there."""
    claims = Claims(3)
    flights = [claims.take(claimed(f"d:{number}-0")) for number in range(2)]
    for flight in flights:
        claims.release(flight)
    taken = [claims.take(claimed(f"d:{number}-1")).place for number in range(3)]
    assert taken == [2, flights[0].place, flights[1].place]


async def test_emptied_tells_when_nothing_is_held():
    claims = Claims(2)
    assert claims.emptied.is_set()
    first, second = claims.take(claimed("d:1-0")), claims.take(claimed("d:2-0"))
    assert not claims.emptied.is_set()
    claims.release(first)
    assert not claims.emptied.is_set()
    claims.release(second)
    await asyncio.wait_for(claims.emptied.wait(), 1)


def test_stopping_what_is_not_here_says_so():
    claims = Claims(1)
    assert claims.stop("d:0-0") is False
    flight = claims.take(claimed("d:1-0"))
    assert not flight.stopped
    assert claims.stop("d:1-0") is True and flight.stopped
    assert claims.stop("d:1-0") is True


def test_what_was_stopped_before_it_was_heard_of_is_stopped():
    """The claim's reply and the signal come over different connections."""
    claims = Claims(2)
    assert claims.stop("d:1-0") is False
    assert claims.take(claimed("d:1-0")).stopped
    assert not claims.take(claimed("d:2-0")).stopped


def test_only_so_many_of_those_are_remembered():
    claims = Claims(2)
    for number in range(1001):
        claims.stop(f"d:{number}-0")
    assert not claims.take(claimed("d:0-0")).stopped
    assert claims.take(claimed("d:1-0")).stopped


async def test_a_flight_that_has_not_begun_is_only_marked():
    async def body() -> str:
        await asyncio.sleep(0)
        return "ended"

    flight = Flight(claimed("d:1-0"), 0)
    task = asyncio.create_task(body())
    flight.task = task  # type: ignore[assignment]
    flight.stop()
    assert await task == "ended"


async def test_a_flight_on_the_loop_is_cancelled_and_one_in_a_thread_is_not():
    for in_thread in (False, True):
        flight = Flight(claimed("d:1-0"), 0, begun=True, in_thread=in_thread)
        flight.task = asyncio.create_task(asyncio.sleep(0.01))
        flight.stop()
        await asyncio.wait({flight.task})
        assert flight.task.cancelled() is not in_thread


def test_the_book_can_be_gone_through_while_it_changes():
    claims = Claims(5)
    for number in range(5):
        claims.take(claimed(f"d:{number}-0"))
    for flight in claims:
        claims.release(flight)
    assert not claims.entries
