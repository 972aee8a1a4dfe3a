"""The only way by which work is claimed and settled: one round trip settles, promotes and claims.

While one exchange is under way, outcomes gather for the next: a group commit without a timer. Nothing is polled: the
loop sleeps until an outcome, a delivery from the idle reader, a due time or a signal gives it a reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from redis.exceptions import RedisError

from docket import clock
from docket.message import Claimed, parse_claims
from docket.store import scripts
from docket.store.asynchronous import AsyncStore
from docket.store.keys import LANES, LANES_FROM_BELOW, SUSPECTS, Keys
from docket_runtime.claims import Claims
from docket_runtime.outage import Outage
from docket_runtime.scheduler import Schedule

_LOG = logging.getLogger("docket.worker")

Settlement = tuple[str, str, str, str | bytes | int, str | bytes]

_MOST_SETTLED = 500
_MOST_BYTES = 4_000_000
_MOST_PROMOTED = 100
_TIMER_GRAIN = 0.001
"""Seconds: what an event loop's timers are good to."""
_SAFETY_LOOK = 5.0
"""Seconds after which an idle worker looks even without a reason: a signal can be lost."""
_CENSUS_INTERVAL = 0.1
"""Seconds between looks at what others still have to do, only while a worker is to leave when all is done."""
_FROM_BELOW_EVERY = 16
"""Of so many rounds that claim, one begins with the lanes that could starve."""
_PATIENCE_WITH_SUSPECTS = 1.0
"""Seconds that a lone worker waits for its slots to empty before it takes a suspect beside what runs on."""


class Crew(Protocol):
    """What the exchange asks of the rest of the worker."""

    @property
    def worker_id(self) -> str: ...

    def begin(self, claimed: Claimed) -> None: ...
    def return_unbegun(self, claimed: Claimed) -> None: ...
    def settled(self, key: str) -> None: ...
    def judged(self, entry: str, verdict: int) -> None: ...
    def superseded(self) -> None: ...
    async def heed(self, version: bytes | None) -> None: ...
    async def lapse(self) -> None: ...


class Exchange:
    """The state of one worker's dealings with the ledger."""

    def __init__(
        self,
        store: AsyncStore,
        keys: Keys,
        crew: Crew,
        claims: Claims,
        schedule: Schedule,
        outage: Outage,
        *,
        batch: int,
        free_threads: Callable[[], int],
        quarantine: bool,
        suspects: bool,
        standing_down: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store, self._keys, self._crew = store, keys, crew
        self._claims, self._schedule, self._outage = claims, schedule, outage
        self._batch, self._free_threads = batch, free_threads
        self._lanes = SUSPECTS if quarantine else LANES
        self._takes_suspects = suspects and not quarantine
        self._standing_down = standing_down
        self._settlements: deque[Settlement] = deque()
        self._resent: set[str] = set()
        self._deliveries: list[tuple[str, str]] = []
        self._wake = asyncio.Event()
        self._uncertain = False
        self._claiming_rounds = 0
        self._looked_at = 0.0
        self._suspects_since: float | None = clock.monotonic() if self._takes_suspects else None
        self._suspect: str | None = None
        self._suspected = 0
        self._over = False
        self._known_empty = False
        self._called_out = 0
        self.quiet = False
        self.hungry = asyncio.Event()
        """Set while the line is known to be empty and a slot is free: the idle reader's signal to block."""
        self.reading = False
        self.free_the_slot_of_the_reader: Callable[[], object] = lambda: None
        self.census_wanted = False
        self.remaining: int | None = None
        self.found_nothing = asyncio.Event()

    # --- what others tell it -------------------------------------------------------------------------------------

    def settle(self, settlement: Settlement) -> None:
        self._settlements.append(settlement)
        self._wake.set()

    def ask_admission(self, claimed: Claimed, words: str) -> None:
        """The crew will be told whether these limits admit it."""
        self.settle((claimed.entry, claimed.key, "admit", words, ""))

    def expect_refusal(self, entry: str) -> None:
        """What is settled next may have gone into a line meanwhile: then it is no news that it is refused."""
        self._resent.add(entry)

    def deliver(self, entry: str, key: str) -> None:
        """The idle reader was given this entry; the next exchange claims it, and looks for more."""
        self._deliveries.append((entry, key))
        self._expect_work()
        self._wake.set()

    def look(self, lane: str = "") -> None:
        """There may be something to claim, though nothing has been settled."""
        if lane == SUSPECTS:
            self._suspected += 1
            if self._takes_suspects and self._suspects_since is None:
                self._suspects_since = clock.monotonic()
            elif self._lanes != SUSPECTS:
                return
        self._expect_work()
        if self.reading and self._claims.free <= 1:
            self.free_the_slot_of_the_reader()  # it blocks on the main lane only, and holds the one slot there is
        self._wake.set()

    def reconnected(self) -> None:
        """Replies may have been lost: the pending list is read before anything else."""
        self._uncertain = True
        self._wake.set()

    def be_quiet(self) -> None:
        self.quiet = True
        self.hungry.clear()
        self._wake.set()

    def resume(self) -> None:
        """Claims again, after `be_quiet`."""
        self.quiet = False
        self._expect_work()
        self._wake.set()

    def _expect_work(self) -> None:
        self._called_out += 1  # the reply to an exchange that is under way cannot know of it
        self._known_empty = False
        self.hungry.clear()

    def _expect_none(self) -> None:
        self._known_empty = True
        # An exchange that was under way when the worker became quiet must not have the reader block again.
        if self._lanes != SUSPECTS and not self.quiet:
            self.hungry.set()

    def wake(self) -> None:
        self._wake.set()

    def finish(self) -> None:
        """The loop ends when everything is settled."""
        self._over = True
        self._wake.set()

    @property
    def settled(self) -> bool:
        return not self._settlements and not self._deliveries

    # --- the loop ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        while not (self._over and self.settled):
            if not self._has_reason():
                await self._sleep()
                continue
            try:
                if self._uncertain:
                    await self._recover()
                await self._round()
                self._outage.over()
                await asyncio.sleep(
                    0
                )  # what was begun may have ended already: then the next round settles it too
            except (RedisError, OSError) as error:
                self._uncertain = True
                await self._outage.wait(error)

    def _has_reason(self) -> bool:
        if self._settlements or self._deliveries or self._uncertain or self._schedule.is_due:
            return True
        return (self._claimable > 0 and not self._known_empty) or clock.monotonic() >= self._next_look()

    def _next_look(self) -> float:
        return self._looked_at + (_CENSUS_INTERVAL if self.census_wanted else _SAFETY_LOOK)

    async def _sleep(self) -> None:
        until = self._next_look()
        due = self._schedule.instant
        if due is not None:
            until = min(until, due)
        if self._suspects_since is not None:
            until = min(until, self._suspects_since + _PATIENCE_WITH_SUSPECTS)
        delay = until - clock.monotonic()
        if delay <= _TIMER_GRAIN:
            await asyncio.sleep(
                0
            )  # the last millisecond is turned through: a timer could only be late for it
            return
        self._wake.clear()
        timer = asyncio.get_running_loop().call_later(delay - _TIMER_GRAIN, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    @property
    def _claimable(self) -> int:
        """Slots that this exchange may fill: what the idle reader may be given meanwhile is kept free for it."""
        if self.quiet or self._suspect is not None or self._standing_down():
            return 0
        kept_free = 1 if self.reading or self.hungry.is_set() else 0
        free = self._claims.free - len(self._deliveries) - kept_free
        free = min(free, self._free_threads() - len(self._deliveries), self._batch)
        if self._suspects_since is not None:
            waited = clock.monotonic() - self._suspects_since
            return min(free, 1) if not self._claims or waited >= _PATIENCE_WITH_SUSPECTS else 0
        return max(0, free)

    async def _round(self) -> None:
        sent = self._next_settlements()
        delivered = list(self._deliveries)
        free = self._claimable
        for_a_suspect = self._suspects_since is not None and free > 0
        lanes = SUSPECTS if for_a_suspect else self._lanes_of_this_round(free)
        self._looked_at = clock.monotonic()
        called_out, suspected = self._called_out, self._suspected
        self._schedule.sent()
        reply = await self._store.ask(
            scripts.exchange(
                self._keys,
                self._crew.worker_id,
                free=free,
                lanes=lanes,
                promote_most=0 if self._lanes == SUSPECTS else _MOST_PROMOTED,
                census=self.census_wanted,
                settlements=sent,
                deliveries=delivered,
            )
        )
        lapsed, now_us, due_us, timekeeper, remaining, verdicts, rows, strikes = reply
        for settlement, verdict in zip(sent, verdicts, strict=True):
            self._settlements.popleft()
            self._judge(settlement, verdict)
        del self._deliveries[: len(delivered)]
        self._schedule.learn(int(now_us), None if due_us is None else int(due_us), bool(timekeeper))
        self.remaining = None if remaining is None else int(remaining)
        if lapsed:
            await self._crew.lapse()
            return
        claims = parse_claims(rows)
        await self._crew.heed(
            strikes
        )  # before anything is begun: these claims are of a moment with those rules
        if for_a_suspect and suspected == self._suspected:
            self._suspects_since = None
        self._take(claims, for_a_suspect)
        if (
            free > 0
            and len(claims) - len(delivered) < free
            and not for_a_suspect
            and called_out == self._called_out
        ):
            self._expect_none()
        if not claims:
            self.found_nothing.set()

    def _lanes_of_this_round(self, free: int) -> str:
        if self._lanes == SUSPECTS or free == 0:
            return self._lanes
        self._claiming_rounds += 1
        return LANES_FROM_BELOW if self._claiming_rounds % _FROM_BELOW_EVERY == 0 else LANES

    def _next_settlements(self) -> list[Settlement]:
        """As many as one script should carry, by number and by size."""
        sent: list[Settlement] = []
        size = 0
        for settlement in self._settlements:
            size += len(settlement[4]) + (0 if isinstance(settlement[3], int) else len(settlement[3]))
            if sent and (len(sent) >= _MOST_SETTLED or size > _MOST_BYTES):
                break
            sent.append(settlement)
        return sent

    def _take(self, claims: list[Claimed], suspects: bool) -> None:
        for claimed in claims:
            if claimed.entry in self._claims:
                continue
            if self.quiet or not self._claims.free:
                self._crew.return_unbegun(claimed)
                continue
            if suspects:
                self._suspect = claimed.entry
            self._crew.begin(claimed)

    def _judge(self, settlement: Settlement, verdict: int) -> None:
        entry, key, outcome = settlement[:3]
        if outcome == "admit":
            self._crew.judged(entry, verdict)
            return
        self._crew.settled(key)
        certain = entry not in self._resent
        self._resent.discard(entry)
        if entry == self._suspect:
            self._suspect = None
            self._suspects_since = clock.monotonic()  # where one was there may be more
        if verdict == 2:
            self._crew.superseded()
            _LOG.info("%s has been superseded or cancelled; its outcome (%s) does not count", key, outcome)
        elif verdict == 0 and certain and outcome != "returned":  # which says that nothing was run
            _LOG.warning(
                "%s was given to another worker after this one's lease had lapsed; its outcome (%s) is discarded",
                key,
                outcome,
            )

    async def _recover(self) -> None:
        """An exchange whose reply was lost may have happened: what it claimed for us is in our pending list."""
        held = [*self._claims.entries, *(entry for entry, *_ in self._settlements)]
        # What was delivered so far is in that list too; what is delivered meanwhile may not be, and is kept.
        self._deliveries.clear()
        self._resent.update(entry for entry, *_ in self._settlements)
        lapsed, rows = await self._store.ask(scripts.recover(self._keys, self._crew.worker_id, held))
        self._uncertain = False
        if lapsed:
            await self._crew.lapse()
            return
        self._expect_work()
        await self._crew.heed(None)
        self._take(parse_claims(rows), suspects=False)


def row(entry: str, key: str, outcome: Any) -> Settlement:
    return (entry, key, outcome.verb, outcome.a, outcome.b)
