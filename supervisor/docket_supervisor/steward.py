"""A process that speaks to Redis for all workers: it renews their leases and hands over what the dead held."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TypeVar

import anyio
import anyio.abc
import redis.exceptions

from docket import clock
from docket.errors import AuthenticationFailed, BadURL, ConnectionFailed
from docket.store.connect import check, refuses, takes_no_writes
from docket.store.ledger import HandedOver as Outcome
from docket.store.ledger import in_one, renewal_interval
from docket.store.ledgers import AnyLedger, open_ledger
from docket.store.refusals import Forbidden, ForeignKey
from docket_supervisor import salvage, titles
from docket_supervisor.answering import Door
from docket_supervisor.channel import Channel
from docket_supervisor.child import Inheritance
from docket_supervisor.codes import ExitCode
from docket_supervisor.health import Health
from docket_supervisor.messages import (
    CountSuspects,
    HandedOver,
    HandOver,
    Leave,
    Measure,
    RedisSeen,
    Suspects,
)
from docket_supervisor.orphanage import Orphanage
from docket_supervisor.salvage import settle_late
from docket_supervisor.stirring import Stirring
from docket_supervisor.vitality import able

logger = logging.getLogger("docket.steward")

AWAY = (
    ConnectionFailed,
    AuthenticationFailed,
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
)
TICK = 0.5
"""Seconds between two signs that the loop turns, and looks at the board."""
CALM_TICK = 2.0
LONGEST_PAUSE = 2.0
MOST_REFUSALS = 100
"""So many are remembered as told."""
FIRST_PAUSE = 0.1
MEASURE_INTERVAL = 2.0
"""Seconds between two looks at how much there is to do."""
CALM_INTERVAL = 10.0
"""The same while nothing happens; whoever asks is told what is so at that moment."""
THOROUGH_EVERY = 8
"""Of so many sweeps while nothing happens, one is thorough."""
FRESH = 0.5
PROBE_PATIENCE = 0.8
"""Seconds; a probe is usually given one."""

T = TypeVar("T")


def run_steward(inherited: Inheritance, channel: Channel) -> int:
    """Serves until told to leave, or until the last worker is gone when nobody can tell us any more."""
    titles.steward(inherited.settings.docket.name)
    # After the fork only, like every room of the runtime.
    from docket_runtime.dumping import dump_on_request

    dump_on_request(inherited.spool.file(inherited.spool.steward))
    try:
        check(inherited.settings.docket.url)
    except BadURL as error:
        logger.error("%s", error)
        return ExitCode.USAGE
    anyio.run(Steward(inherited, channel).run)
    return ExitCode.CLEAN


class Steward:
    """Every verb to Redis goes through `_attempt`, so that an outage is told once and never loses an order."""

    def __init__(self, inherited: Inheritance, channel: Channel) -> None:
        self._docket = inherited.settings.docket
        self._worker = inherited.settings.worker
        self._scales = inherited.settings.autoscale
        self._seats = inherited.board.seats
        self._channel = channel
        self._orphanage = Orphanage(inherited.settings, self._seats)
        self._orders: dict[int, HandOver] = {}
        self._ordered = anyio.Event()
        self._lapsed: set[str] = set()
        self._reachable: bool | None = None
        self._pause = FIRST_PAUSE
        self._refusals: set[str] = set()
        self._ledger: AnyLedger | None = None
        self._bulletin = inherited.board.bulletin
        self._asked_at = 0.0
        self._stirring = Stirring(self._seats)
        self._measured_at = 0.0
        self._found_work = False
        self._sweeps = 0
        self._thorough_at = 0.0
        self._evacuating = anyio.Event()
        self._door: Door | None = None
        if (listener := inherited.entrance.socket) is not None:
            health = Health(
                inherited.settings, inherited.board, inherited.metrics, self._look, self._look_closely
            )
            self._door = Door(listener, health.answer)

    async def run(self) -> None:
        async with AsyncExitStack() as stack, anyio.create_task_group() as group:
            group.start_soon(self._tick)
            group.start_soon(self._listen, group)
            if self._door is not None:
                # Before there is a Redis: that there is none is one of the answers.
                await self._door.open()
            await self._open(stack)
            group.start_soon(self._hand_over)
            group.start_soon(self._hear_of_suspects)
            group.start_soon(
                self._every, renewal_interval(self._worker.redelivery_timeout).total_seconds(), self._renew
            )
            group.start_soon(self._every, self._sweep_interval, self._sweep)
            group.start_soon(self._every, MEASURE_INTERVAL, self._measure_if_need_be)
            group.start_soon(self._evacuate_the_stuck)

    @property
    def _sweep_interval(self) -> float:
        """A lapse is noticed within a quarter of the lease, or four seconds."""
        return min(4.0, max(0.1, self._worker.redelivery_timeout.total_seconds() / 4))

    @property
    def ledger(self) -> AnyLedger:
        if self._ledger is None:
            raise RuntimeError("the ledger is not open yet")
        return self._ledger

    async def _open(self, stack: AsyncExitStack) -> None:
        async def opened() -> AnyLedger:
            ledger = await stack.enter_async_context(open_ledger(self._docket, self._worker.serve_partitions))
            await ledger.ping()
            return ledger

        while self._ledger is None:
            # It answers, and whether it takes writes the first renewal will tell, which follows at once.
            self._ledger = await self._attempt(opened, conclusive=True)
            if self._ledger is None:
                await self._rest()

    # The supervisor's side

    async def _listen(self, group: anyio.abc.TaskGroup) -> None:
        while not self._channel.ended:
            await anyio.wait_readable(self._channel)
            for message in self._channel.receive():
                match message:
                    case HandOver():
                        self._orders[message.order] = message
                        self._ordered.set()
                    case CountSuspects():
                        self._ordered.set()
                    case Measure() if self._ledger is not None:
                        group.start_soon(self._measure)
                    case Leave():
                        group.cancel_scope.cancel()
                        return
                    case _:
                        pass
        await self._outlive()
        group.cancel_scope.cancel()

    async def _outlive(self) -> None:
        """The supervisor has died: workers drain by themselves, and we stay for those that do not manage to."""
        if self._door is not None:
            # The service is over; the port is for whoever comes next, who may be here before the last worker has gone.
            self._door.close()
        self._orphanage.open(clock.monotonic())
        while self._orphanage.open_still(clock.monotonic(), self._orders):
            for order in self._orphanage.round(clock.monotonic()):
                self._orders[order.order] = order
                self._ordered.set()
            await anyio.sleep(0.1)

    async def _tick(self) -> None:
        while True:
            now = self._bulletin.steward_ticked_at = clock.monotonic()
            self._stirring.look(now)
            if any(seat.pid and seat.evacuating for seat in self._seats):
                self._evacuating.set()
            await _until_next(TICK if self._stirring.lately(now) else CALM_TICK)

    # Redis's side

    async def _hand_over(self) -> None:
        while True:
            await self._ordered.wait()
            self._ordered = anyio.Event()
            for order in list(self._orders.values()):
                outcome = await self._attempt(lambda order=order: self._hand_over_one(order))
                if outcome is None:
                    self._ordered.set()
                    await self._rest()
                    break
                del self._orders[order.order]
                self._channel.send(
                    HandedOver(
                        order.order, order.worker_id, outcome.returned, outcome.suspects, list(outcome.dead)
                    )
                )
            await self._count_suspects()

    async def _hand_over_one(self, order: HandOver) -> Outcome:
        self._lapsed.add(order.worker_id)
        await settle_late(self.ledger, self._docket, order)
        return await self.ledger.hand_over(
            order.worker_id, order.cause, started=order.started, max_crashes=self._worker.max_crashes
        )

    async def _evacuate_the_stuck(self) -> None:
        while True:
            await self._evacuating.wait()
            self._evacuating = anyio.Event()
            while stuck := salvage.stuck(self._seats):
                await self._evacuate(stuck)
                await anyio.sleep(salvage.INTERVAL)

    async def _evacuate(self, stuck: list[tuple[str, Sequence[str]]]) -> None:
        for name, begun in stuck:
            returned = await self._attempt(lambda name=name, begun=begun: self.ledger.evacuate(name, begun))
            if returned:
                logger.warning("gave %d executions of worker %s to others", returned, name)

    async def _hear_of_suspects(self) -> None:
        """One that waited for a limit comes into the suspects' line long after its worker has died."""
        async for _ in self.ledger.suspects_called_out():
            await self._count_suspects()

    async def _count_suspects(self) -> None:
        waiting = await self._attempt(self.ledger.suspects)
        if waiting is not None:
            self._channel.send(Suspects(waiting))

    async def _renew(self) -> None:
        """Not for the dead, and not for the stopped: whatever cannot turn its loop must be redelivered elsewhere."""
        self._channel.flush()
        pids = {
            holder[1]: (seat, holder[0])
            for seat in self._seats
            if (holder := seat.holder) is not None and able(holder[0])
        }
        self._lapsed &= pids.keys()
        names = [name for name in pids if name not in self._lapsed]
        if not names:
            # Nobody can come on the roll while Redis takes no writes, and then that must be told all the same.
            await self._write_nothing()
            return
        renewed = await self._attempt(
            lambda: self.ledger.renew(names, lease=self._worker.redelivery_timeout), conclusive=True
        )
        for name, held in zip(names, renewed or (), strict=False):
            seat, pid = pids[name]
            if held:
                seat.vouch(pid)
            elif seat.pid == pid and seat.phase != "left":  # else it has signed off since we looked
                self._lapsed.add(name)
                logger.warning("lease of worker %s has lapsed; it is fenced", name)

    async def _sweep(self) -> None:
        self._sweeps += 1
        thorough = self._stirring.since(self._thorough_at) or self._sweeps % THOROUGH_EVERY == 0
        if thorough:
            self._thorough_at = clock.monotonic()
        most = self._worker.max_crashes
        handed_over = await self._attempt(lambda: self.ledger.sweep(most, thorough=thorough))
        for name, outcome in handed_over or ():
            self._lapsed.add(name)
            logger.warning(
                "handed over what worker %s held, whose lease had lapsed: %d returned, %d suspect, %d dead letters",
                name,
                outcome.returned,
                outcome.suspects,
                len(outcome.dead),
            )
        if thorough or handed_over:
            await self._count_suspects()

    async def _measure_if_need_be(self) -> None:
        """What waits without anybody working on it shows in the figures only; else the board tells that something has
        happened."""
        stirs = self._scales or self._found_work or self._stirring.since(self._measured_at)
        if stirs or clock.monotonic() - self._measured_at > CALM_INTERVAL - MEASURE_INTERVAL / 2:
            await self._measure()

    async def _measure(self) -> None:
        began = clock.monotonic()
        figures = await self._attempt(self.ledger.figures)
        if figures is not None:
            self._measured_at = began
            self._found_work = figures.due + figures.waiting > 0
            self._bulletin.measured(
                figures.due, figures.scheduled, figures.waiting, figures.dead, figures.latency
            )

    async def _look(self) -> None:
        """Whether Redis can be worked with is known as of now, not of the last renewal; at most twice a second."""
        if self._ledger is None or clock.monotonic() - self._asked_at < FRESH:
            return
        self._asked_at = clock.monotonic()
        await self._write_nothing(PROBE_PATIENCE)

    async def _write_nothing(self, patience: float | None = None) -> None:
        """Renews the lease of nobody. A Redis that is full, or a replica by now, answers whatever only reads; that it
        takes no writes shows in a write only, also in one that finds nothing to change."""
        served = self._worker.serve_partitions
        rolls = self._docket.partitions if served is None else len(served)
        nobody = in_one([f"nobody/0.{number}" for number in range(rolls)])

        async def write() -> bool:
            try:
                with anyio.fail_after(patience):
                    await self.ledger.renew([nobody], lease=self._worker.redelivery_timeout)
            except TimeoutError:
                raise ConnectionFailed(f"no answer within {patience:g}s") from None
            return True

        await self._attempt(write, conclusive=True)

    async def _look_closely(self) -> None:
        """The figures are of now; or as old as they are, if Redis takes its time."""
        if self._ledger is not None and clock.monotonic() - self._measured_at >= FRESH:
            with anyio.move_on_after(PROBE_PATIENCE):
                await self._measure()

    # One round of anything

    async def _every(self, seconds: float, round: Callable[[], Awaitable[None]]) -> None:
        while True:
            await round()
            await _until_next(seconds)

    async def _attempt(self, verb: Callable[[], Awaitable[T]], *, conclusive: bool = False) -> T | None:
        """What the verb returns; None if it failed, which has been told then. `conclusive`: after this Redis is back;
        that is not so of what may only have read, since all that workers do is written."""
        try:
            result = await verb()
        except (ForeignKey, Forbidden) as error:
            self._refused(error)
            return None
        except Exception as error:
            # A border: one round may fail for a cause of its own, the leases of all others must still be renewed.
            if is_away(error):
                self._away(error)
            else:
                logger.exception("steward could not do this round")
            return None
        if conclusive:
            self._back()
        return result

    def _refused(self, error: Exception) -> None:
        """Once for each: it is tried again every few seconds, until somebody has mended it."""
        if str(error) not in self._refusals:
            if len(self._refusals) >= MOST_REFUSALS:
                self._refusals.clear()
            self._refusals.add(str(error))
            logger.error("Redis refuses (%s: %s); trying again", type(error).__name__, error)

    def _away(self, error: Exception) -> None:
        self._bulletin.reachable = False
        if self._reachable is not False:
            self._reachable = False
            said = "takes no writes" if takes_no_writes(error) else "is away"
            logger.warning("Redis %s (%s); waiting for it", said, error)
            self._channel.send(RedisSeen(reachable=False, reason=str(error)))

    def _back(self) -> None:
        self._pause = FIRST_PAUSE
        self._bulletin.reachable = True
        if self._reachable is not True:
            if self._reachable is False:
                logger.info("Redis is back")
            self._reachable = True
            self._channel.send(RedisSeen(reachable=True))

    async def _rest(self) -> None:
        await anyio.sleep(self._pause)
        self._pause = min(LONGEST_PAUSE, self._pause * 2)


def is_away(error: Exception) -> bool:
    """Workers wait as well when they meet this, and claim nothing meanwhile."""
    return isinstance(error, AWAY) or refuses(error) or takes_no_writes(error)


async def _until_next(seconds: float) -> None:
    """The next multiple of so many seconds: who waits for a second and who waits for two are woken as one."""
    now = clock.monotonic()
    await anyio.sleep((now // seconds + 1) * seconds - now)
