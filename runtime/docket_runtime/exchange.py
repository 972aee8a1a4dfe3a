"""The only way by which work is claimed and settled: one round trip settles, promotes and claims.

While one round is under way, outcomes gather for the next: a group commit without a timer. If many have gathered they
go in a second round beside it, so that Redis works on one half while this worker works on the other. Nothing is polled:
the loop sleeps until an outcome, a delivery from the idle reader, a due time or a signal gives it a reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from itertools import islice

from redis.exceptions import RedisError

from docket import clock
from docket.message import Claimed, parse_claims
from docket.store import scripts
from docket.store.asynchronous import AsyncStore
from docket.store.keys import LANES, LANES_FROM_BELOW, SUSPECTS, Keys
from docket_runtime.claims import Claims
from docket_runtime.outage import Outage
from docket_runtime.rounds import Brought, Crew, Round, Settlement
from docket_runtime.scheduler import Schedule

_LOG = logging.getLogger("docket.worker")

_MOST_SETTLED = 200
_MOST_CLAIMED = 200
"""In one round: Redis serves nobody else for about 3 ms then."""
_MOST_BYTES = 4_000_000
_MOST_PROMOTED = 100
_TIMER_GRAIN = 0.001
"""Seconds: what an event loop's timers are good to."""
_SAFETY_LOOK = 5.0
"""Seconds after which an idle worker looks even without a reason: a signal can be lost."""
_LATEST_SAFETY_LOOK = 15.0
"""The same for one of many: the others look as well, and what one finds none of them has missed."""
_CENSUS_INTERVAL = 0.1
"""Seconds between looks at what others still have to do, only while a worker is to leave when all is done."""
_FROM_BELOW_EVERY = 16
"""Of so many rounds that claim, one begins with the lanes that could starve."""
_WORTH_A_ROUND = (3, 50)
"""A quarter of the slots, within these bounds: so many outcomes are worth a round beside another one."""
_PATIENCE_WITH_SUSPECTS = 1.0
"""Seconds that a lone worker waits for its slots to empty before it takes a suspect beside what runs on."""


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
        crew_size: int = 1,
    ) -> None:
        self._store, self._keys, self._crew = store, keys, crew
        self._claims, self._schedule, self._outage = claims, schedule, outage
        self._most_claimed, self._free_threads = min(batch, _MOST_CLAIMED), free_threads
        self._lanes = SUSPECTS if quarantine else LANES
        self._takes_suspects = suspects and not quarantine
        self._standing_down = standing_down
        self._safety_look = min(_SAFETY_LOOK * crew_size, _LATEST_SAFETY_LOOK)
        self._settlements: deque[Settlement] = deque()
        self._under_way: deque[Round] = deque()
        least, most = _WORTH_A_ROUND
        self._worth_a_round = max(least, min(claims.concurrency // 4, most))
        self._resent: set[str] = set()
        self._deliveries: list[tuple[str, str]] = []
        self._brought: deque[Brought] = deque()
        self._wake = asyncio.Event()
        self._uncertain = False
        self._claiming_rounds = 0
        self._looked_at = self._asked_at = 0.0
        self._suspects_since: float | None = clock.monotonic() if self._takes_suspects else None
        self._suspect: str | None = None
        self._suspected = 0
        self._over = False
        self._known_empty = False
        self._called_out = 0
        self.quiet = False
        self._may_read = True
        self.hungry = asyncio.Event()
        """Set while the line is known to be empty and a slot is free: the idle reader's signal to block."""
        self.reading = False
        self.latest = "0-0"
        """The id of about the last entry of the main lane that this worker has been given."""
        self.recoveries = 0
        self.free_the_slot_of_the_reader: Callable[[], object] = lambda: None
        self.census_wanted = False
        self.remaining: int | None = None
        self.found_nothing = asyncio.Event()

    # --- what others tell it -------------------------------------------------------------------------------------

    def settle(self, settlement: Settlement) -> None:
        self._settlements.append(settlement)
        if not self._under_way or self._is_worth_another():
            self._wake.set()

    def ask_admission(self, claimed: Claimed, words: str) -> None:
        """The crew will be told whether these limits admit it."""
        self.settle((claimed.entry, claimed.key, "admit", words, ""))

    def expect_refusal(self, entry: str) -> None:
        """What is settled next may have gone into a line meanwhile: then it is no news that it is refused."""
        self._resent.add(entry)

    def accept(self, brought: Brought) -> None:
        """What the idle reader was given, and what has been claimed in the same breath."""
        self._brought.append(brought)
        self.hungry.clear()
        self._wake.set()

    def deliver(self, entry: str, key: str) -> None:
        """The idle reader was given this entry; the next exchange claims it, and looks for more."""
        if entry in self._claims or any(entry == each[0] for each in self._settlements):
            return  # a recovery has found it, and knew what had become of it
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
        if self.reading and self._claims.allowance <= 1:
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

    def stop_reading(self) -> None:
        """No read begins until `read_again`. One that blocks is for its reader to end."""
        self._may_read = False
        self.hungry.clear()

    def read_again(self) -> None:
        self._may_read = True
        self.look()

    def _expect_work(self) -> None:
        self._called_out += 1  # the reply to an exchange that is under way cannot know of it
        self._known_empty = False
        self.hungry.clear()

    def _expect_none(self) -> None:
        self._known_empty = True
        self._go_hungry()

    def _go_hungry(self) -> None:
        # An exchange that was under way when the worker became quiet must not have the reader block again.
        if self._lanes != SUSPECTS and not self.quiet and self._may_read:
            self.hungry.set()

    def wake(self) -> None:
        self._wake.set()

    def let_wait(self, entry: str) -> None:
        """Its flight has ended without an outcome: it stands in line for a limit, or is not this worker's any more."""
        self._resent.discard(entry)
        if entry == self._suspect:
            self._let_the_suspect_go()
        self._wake.set()

    def finish(self) -> None:
        """The loop ends when everything is settled."""
        self._over = True
        self._wake.set()

    @property
    def wants_more(self) -> bool:
        """There may be something for a free slot. A partition that is away holds none free."""
        return not self._known_empty and not self.quiet and not self._outage.is_on

    @property
    def promised(self) -> int:
        """Slots that what is on its way will fill, or may."""
        return len(self._brought) + len(self._deliveries) + sum(each.free for each in self._under_way)

    @property
    def runs_a_suspect(self) -> bool:
        return self._suspect is not None

    @property
    def unsettled(self) -> int:
        """Outcomes of which nobody knows yet whether Redis has them."""
        return len(self._settlements)

    @property
    def settled(self) -> bool:
        return not (self._brought or self._settlements or self._deliveries or self._under_way)

    # --- the loop ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        try:
            while not (self._over and self.settled):
                try:
                    await self._step()
                except (RedisError, OSError) as error:
                    self._uncertain = True
                    await self._abandon()
                    self._claims.pass_on()
                    await self._outage.wait(error)
        finally:
            for each in self._under_way:
                each.reply.cancel()

    async def _step(self) -> None:
        if self._brought:
            await self._take_brought()
            # What was begun may have ended already: then the next round settles it.
            await asyncio.sleep(0)
        elif self._under_way and self._under_way[0].reply.done():
            await self._hear()
            self._outage.over()
            await asyncio.sleep(0)
        elif self._uncertain and not self._under_way:
            await self._recover()
        elif self._has_reason():
            self._send()
        else:
            await self._sleep()

    def _has_reason(self) -> bool:
        if self._under_way:
            return self._is_worth_another()
        if self._settlements or self._deliveries or self._schedule.is_due:
            return True
        return (self._claimable > 0 and not self._known_empty) or clock.monotonic() >= self._next_look()

    def _is_worth_another(self) -> bool:
        """Beside the one that is under way. Suspects and those who count what is left go one step at a time."""
        if len(self._under_way) != 1 or self._uncertain or self.census_wanted:
            return False
        if self._suspects_since is not None or self._lanes == SUSPECTS:
            return False
        return len(self._settlements) - self._under_way[0].settlements >= self._worth_a_round

    async def hear_what_is_under_way(self) -> None:
        """All rounds that were sent by now have been heard, or given up."""
        sent = list(self._under_way)
        while any(each in sent for each in self._under_way):
            await asyncio.wait([each.reply for each in sent])
            await asyncio.sleep(0.002)

    async def _abandon(self) -> None:
        """What is under way has come to its end, one way or the other, before anybody looks what has become of it."""
        await asyncio.gather(*(each.reply for each in self._under_way), return_exceptions=True)
        self._under_way.clear()

    def _next_look(self) -> float:
        return self._looked_at + (_CENSUS_INTERVAL if self.census_wanted else self._safety_look)

    async def _sleep(self) -> None:
        if self._under_way:
            self._wake.clear()
            await self._wake.wait()
            return
        until = self._next_look()
        if self._suspects_since is not None and self._claims.allowance > 0:
            until = min(until, self._suspects_since + _PATIENCE_WITH_SUSPECTS)
        due, grain = self._schedule.instant, 0.0
        if due is not None and due < until:
            until, grain = due, _TIMER_GRAIN
        delay = until - clock.monotonic()
        if delay <= grain:
            # The last millisecond is turned through: a timer could only be late for it.
            await asyncio.sleep(0)
            return
        self._wake.clear()
        timer = asyncio.get_running_loop().call_later(delay - grain, self._wake.set)
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
        promised = self.promised
        free = min(
            self._claims.allowance - promised - kept_free, self._free_threads() - promised, self._most_claimed
        )
        if self._suspects_since is not None:
            waited = clock.monotonic() - self._suspects_since
            return max(0, min(free, 1)) if self._claims.idle or waited >= _PATIENCE_WITH_SUSPECTS else 0
        return max(0, free)

    def _send(self) -> None:
        if self._only_the_reader_asks():
            self.look()
        settlements = self._next_settlements()
        first = sum(each.deliveries for each in self._under_way)
        deliveries = self._deliveries[first:]
        free = self._claimable
        for_a_suspect = self._suspects_since is not None and free > 0
        if not self._under_way and len(settlements) >= 2 * self._worth_a_round and not for_a_suspect:
            # By halves: the other one goes right behind it.
            del settlements[len(settlements) // 2 :]
            free = (free + 1) // 2
        lanes = SUSPECTS if for_a_suspect else self._lanes_of_this_round(free)
        self._looked_at = clock.monotonic()
        if free > 0:
            self._asked_at = self._looked_at
        self._schedule.sent()
        call = scripts.exchange(
            self._keys,
            self._crew.worker_id,
            free=free,
            lanes=lanes,
            promote_most=0 if self._lanes == SUSPECTS else _MOST_PROMOTED,
            census=self.census_wanted,
            settlements=settlements,
            deliveries=deliveries,
        )
        reply = asyncio.ensure_future(self._store.ask(call))
        reply.add_done_callback(lambda _: self._wake.set())
        self._under_way.append(
            Round(
                reply,
                self._crew.worker_id,
                len(settlements),
                len(deliveries),
                free,
                for_a_suspect,
                self._called_out,
                self._suspected,
                self._looked_at,
            )
        )

    def _only_the_reader_asks(self) -> bool:
        """For too long: it holds the one free slot, and hears of the main lane only."""
        if not self.hungry.is_set() or self._claims.allowance != 1:
            return False
        return clock.monotonic() >= self._asked_at + self._safety_look

    async def _hear(self) -> None:
        sent = self._under_way[0]
        lapsed, now_us, due_us, timekeeper, remaining, verdicts, rows, strikes = sent.reply.result()
        self._under_way.popleft()
        for verdict in verdicts:
            self._judge(self._settlements.popleft(), verdict)
        delivered = self._deliveries[: sent.deliveries]
        del self._deliveries[: sent.deliveries]
        due = None if due_us is None else int(due_us)
        self._schedule.learn(int(now_us), due, bool(timekeeper), sent.sent_at)
        self.remaining = None if remaining is None else int(remaining)
        if lapsed:
            if sent.worker_id == self._crew.worker_id:  # else it is known already, from the round before
                await self._crew.lapse()
            return
        claims = parse_claims(rows)
        # Before anything is begun: these claims are of a moment with those rules.
        await self._crew.heed(strikes)
        if sent.for_a_suspect and sent.suspected == self._suspected:
            self._suspects_since = None
        self._take(claims, sent.for_a_suspect)
        if self._was_the_last(sent, claims, delivered):
            self._expect_none()
        self._claims.pass_on()
        if not claims and not self._claims.must_wait and sent.called_out == self._called_out:
            self.found_nothing.set()

    async def _take_brought(self) -> None:
        brought = self._brought[0]
        lapsed, rows, more, strikes = brought.reply
        claims = parse_claims(rows)
        # What was brought under an old name was handed back with all that it held.
        ours = brought.worker_id == self._crew.worker_id
        certain = [each.entry for each in claims] == [brought.entry] and brought.recoveries == self.recoveries
        if ours and certain:
            await self._crew.heed(strikes)
        self._brought.popleft()
        if ours and lapsed:
            await self._crew.lapse()
        elif ours and certain:
            self._take(claims, suspects=False)
        elif ours and claims:
            self.reconnected()  # all that was delivered is in the pending list
        elif ours and brought.entry:
            self.deliver(brought.entry, brought.key)
        self._read_on(ours and certain and not lapsed and not more)

    def _read_on(self, was_the_last: bool) -> None:
        """Behind what was brought the line is as empty as before the read. Who has no slot left looks again later."""
        if not was_the_last or not self._known_empty or self._claims.allowance <= self.promised:
            self._expect_work()
        else:
            self._go_hungry()

    def _was_the_last(self, sent: Round, claims: list[Claimed], delivered: list[tuple[str, str]]) -> bool:
        """True if that round has left nothing in line, and neither a later one nor a signal can know better."""
        if sent.for_a_suspect or not sent.free:
            return False
        found = len(claims)
        if delivered:
            # By name: not every delivery becomes a claim, and those that went into the line of a limit filled no slot.
            entries = {entry for entry, _ in delivered}
            found = sum(each.entry not in entries for each in claims)
        if found >= sent.free:
            return False
        return sent.called_out == self._called_out and not any(each.free for each in self._under_way)

    def _lanes_of_this_round(self, free: int) -> str:
        if self._lanes == SUSPECTS or free == 0:
            return self._lanes
        self._claiming_rounds += 1
        return LANES_FROM_BELOW if self._claiming_rounds % _FROM_BELOW_EVERY == 0 else LANES

    def _next_settlements(self) -> list[Settlement]:
        """As many of those that are not under way as one script should carry, by number and by size."""
        sent: list[Settlement] = []
        size = 0
        for settlement in islice(self._settlements, sum(each.settlements for each in self._under_way), None):
            size += len(settlement[4]) + (0 if isinstance(settlement[3], int) else len(settlement[3]))
            if sent and (len(sent) >= _MOST_SETTLED or size > _MOST_BYTES):
                break
            sent.append(settlement)
        return sent

    def _take(self, claims: list[Claimed], suspects: bool) -> None:
        self.latest = next((each.entry[2:] for each in reversed(claims) if each.entry[0] == "d"), self.latest)
        for claimed in claims:
            if claimed.entry in self._claims:
                continue
            if self.quiet or not self._claims.free:
                self._crew.return_unbegun(claimed)
                continue
            if suspects and claimed.entry[0] == SUSPECTS:  # what was delivered comes with the same reply
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
            self._let_the_suspect_go()
        if verdict == 2:
            self._crew.superseded()
            if outcome != "cancelled":  # which it was to be
                _LOG.info(
                    "%s has been superseded or cancelled; its outcome (%s) does not count", key, outcome
                )
        elif verdict == 0 and certain and outcome != "returned":  # which says that nothing was run
            _LOG.warning(
                "%s was given to another worker after this one's lease had lapsed; its outcome (%s) is discarded",
                key,
                outcome,
            )

    def _let_the_suspect_go(self) -> None:
        self._suspect = None
        self._suspects_since = clock.monotonic()  # where one was there may be more

    async def _recover(self) -> None:
        """An exchange whose reply was lost may have happened: what it claimed for us is in our pending list."""
        held = [*self._claims.entries, *(entry for entry, *_ in self._settlements)]
        # What was delivered so far is in that list too; what is delivered meanwhile may not be, and is kept.
        self._deliveries.clear()
        self._resent.update(entry for entry, *_ in self._settlements)
        self.recoveries += 1
        lapsed, rows = await self._store.ask(scripts.recover(self._keys, self._crew.worker_id, held))
        self._uncertain = False
        if lapsed:
            await self._crew.lapse()
            return
        self._expect_work()
        await self._crew.heed(None)
        claims = parse_claims(rows)
        found = {each.entry for each in claims}
        self._deliveries = [each for each in self._deliveries if each[0] not in found]
        self._take(claims, self._takes_suspects)
