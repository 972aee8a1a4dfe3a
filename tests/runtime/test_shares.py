"""Free slots are for whoever holds the fewest; none is kept for anybody, and nobody waits for ever."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, cast

import pytest

from docket_runtime.shares import Share, Shares


@dataclass
class Exchange:
    wants_more: bool = True
    runs_a_suspect: bool = False
    promised: int = 0
    woken: int = 0

    def wake(self) -> None:
        self.woken += 1


_entries = itertools.count()


def take(share: Share, count: int) -> list[Any]:
    @dataclass
    class Claimed:
        entry: str

    return [share.take(cast(Any, Claimed(f"d:{next(_entries)}"))) for _ in range(count)]


def shares(slots: int, *exchanges: Exchange) -> list[Share]:
    found = Shares(slots, len(exchanges)).each
    for share, exchange in zip(found, exchanges, strict=True):
        share.claimant = exchange
    return found


def test_alone_a_partition_may_have_all():
    one, other = shares(10, Exchange(), Exchange(wants_more=False))
    assert one.allowance == 10
    take(one, 7)
    assert one.allowance == 3
    assert other.allowance <= 3


@pytest.mark.parametrize(
    ("slots", "held", "entitled"),
    [
        (9, (0, 0, 0), (3, 3, 3)),
        (9, (6, 0, 0), (0, 2, 1)),
        (9, (3, 3, 1), (0, 0, 2)),
        (10, (5, 5, 0), (0, 0, 0)),
        (12, (4, 1, 0), (0, 3, 4)),
        (1, (0, 0, 0), (1, 0, 0)),
    ],
)
def test_free_slots_level_out_what_is_held(slots: int, held: tuple[int, ...], entitled: tuple[int, ...]):
    all_of_them = shares(slots, *(Exchange() for _ in held))
    for share, count in zip(all_of_them, held, strict=True):
        take(share, count)
    allowed = [share.allowance for share in all_of_them]
    assert sum(allowed) == slots - sum(held)
    assert sorted(allowed) == sorted(entitled)


def test_what_is_on_its_way_counts_as_held():
    first, second = Exchange(), Exchange()
    one, other = shares(10, first, second)
    first.promised = 10
    assert one.allowance == 10, "it may fill them"
    assert other.allowance == 0
    assert other.must_wait and one.must_wait
    first.promised = 4
    assert other.allowance == 5
    assert not other.must_wait


def test_one_slot_goes_to_each_in_turn():
    all_of_them = shares(1, Exchange(), Exchange(), Exchange())
    served: list[int] = []
    for _ in range(9):
        (number,) = [at for at, share in enumerate(all_of_them) if share.allowance]
        served.append(number)
        (flight,) = take(all_of_them[number], 1)
        all_of_them[number].release(flight)
    assert sorted(served[:3]) == [0, 1, 2] and served == served[:3] * 3


def test_nothing_begins_beside_a_suspect_of_another_partition():
    suspicious = Exchange(runs_a_suspect=True)
    one, other = shares(10, suspicious, Exchange())
    take(one, 1)
    assert other.allowance == 0
    suspicious.runs_a_suspect = False
    assert other.allowance == 5


def test_who_may_go_on_is_woken_when_a_slot_is_free():
    waiting, satisfied = Exchange(), Exchange(wants_more=False)
    one, _, _ = shares(1, Exchange(), waiting, satisfied)
    (flight,) = take(one, 1)
    one.release(flight)
    assert (waiting.woken, satisfied.woken) == (1, 0)


def test_together_they_are_read_like_the_claims_of_one():
    both = Shares(4, 2)
    flights = [*take(both.each[1], 1), *take(both.each[0], 1)]
    assert (len(both), both.free) == (2, 2)
    assert {flight.place for flight in both} == {flight.place for flight in flights}
    assert not both.emptied.is_set() and len(both.entries) == len(list(both)) == 2
    for each in list(both):
        next(share for share in both.each if each.claimed.entry in share).release(each)
    assert both.emptied.is_set() and not both
