"""Who may fill a free slot, where one worker serves several partitions: each has a part of the slots, and none starves.

A slot that nobody else wants is anybody's. As soon as several want one, it is for whoever holds the fewest, and among
equals for whoever was served longest ago. Nothing is set aside: what one partition does not use, the others fill.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from docket.message import Claimed
from docket_runtime.claims import Claims, Flight


class Claimant(Protocol):
    """The exchange of a partition, as the others see it."""

    @property
    def wants_more(self) -> bool:
        """There may be something for a free slot."""
        ...

    @property
    def runs_a_suspect(self) -> bool:
        """And nothing shall begin beside that."""
        ...

    @property
    def promised(self) -> int:
        """Slots that what is on its way to it will fill, or may."""
        ...

    def wake(self) -> None: ...


class Share(Claims):
    """What a worker holds of one partition. The slots are those of all its partitions."""

    def __init__(
        self, concurrency: int, free: deque[int], emptied: asyncio.Event, turns: Iterator[int]
    ) -> None:
        super().__init__(concurrency)
        self._free, self.emptied, self._turns = free, emptied, turns
        self._all: Sequence[Share] = (self,)
        self._served = next(turns)
        self.claimant: Claimant | None = None

    def beside(self, all_shares: Sequence[Share]) -> None:
        self._all = all_shares

    @property
    def _promised(self) -> int:
        return self.claimant.promised if self.claimant is not None else 0

    @property
    def promised_to_others(self) -> int:
        """Slots that what others are just claiming may fill."""
        return sum(each._promised for each in self._all if each is not self)

    @property
    def _held(self) -> int:
        return len(self) + self._promised

    def _is_rival(self) -> bool:
        return self.claimant is not None and self.claimant.wants_more

    @property
    def allowance(self) -> int:
        """What is on its way here may fill some of them."""
        others = [each for each in self._all if each is not self]
        left = len(self._free) - self.promised_to_others - self._promised
        if left <= 0 or any(each.claimant and each.claimant.runs_a_suspect for each in others):
            return self._promised
        rivals = [each for each in others if each._is_rival()]
        return self._promised + (self._entitled([self, *rivals], left) if rivals else left)

    def _entitled(self, rivals: Sequence[Share], free: int) -> int:
        """As if the free slots were given out one by one, each to whoever holds the fewest then."""
        lowest = sorted(rivals, key=lambda each: (each._held, each._served))
        while True:
            level = lowest[-1]._held
            rest = free - sum(level - each._held for each in lowest)
            if rest >= 0 or len(lowest) == 1:
                break
            lowest.pop()
        if self not in lowest:
            return 0
        whole, odd = divmod(rest, len(lowest))
        first = sorted(lowest, key=lambda each: each._served)[:odd]
        return level - self._held + whole + (self in first)

    @property
    def must_wait(self) -> bool:
        return self._is_rival() and self.allowance <= self._promised

    def pass_on(self) -> None:
        for each in self._all:
            if each is not self and each.claimant is not None and each.claimant.wants_more:
                each.claimant.wake()

    def take(self, claimed: Claimed) -> Flight:
        self._served = next(self._turns)
        return super().take(claimed)

    def release(self, flight: Flight) -> None:
        super().release(flight)
        self.pass_on()


class Shares:
    """All that a worker holds, of whatever partition; read like the claims of a worker that serves one."""

    def __init__(self, concurrency: int, partitions: int) -> None:
        self.concurrency = concurrency
        self._free = deque(range(concurrency))
        self.emptied = asyncio.Event()
        self.emptied.set()
        turns = itertools.count(1)
        self.each = [Share(concurrency, self._free, self.emptied, turns) for _ in range(partitions)]
        for share in self.each:
            share.beside(self.each)

    @property
    def roused(self) -> Callable[[], object]:
        """Called when there is a claim of any partition and there was none."""
        return self.each[0].roused

    @roused.setter
    def roused(self, rouse: Callable[[], object]) -> None:
        for share in self.each:
            share.roused = rouse

    @property
    def free(self) -> int:
        return len(self._free)

    def __len__(self) -> int:
        return sum(map(len, self.each))

    def __iter__(self) -> Iterator[Flight]:
        return itertools.chain.from_iterable(self.each)

    @property
    def entries(self) -> list[str]:
        return [entry for share in self.each for entry in share.entries]

    @property
    def in_threads(self) -> int:
        return sum(share.in_threads for share in self.each)
