"""The supervisor's side of the steward: keeps one alive, and keeps each order until it is acknowledged."""

from __future__ import annotations

import logging
import math
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from docket import clock
from docket_supervisor.channel import Channel, fork_with_channel
from docket_supervisor.child import Inheritance, resolve
from docket_supervisor.codes import ExitCode
from docket_supervisor.deaths import Death
from docket_supervisor.forking import UNFORKABLE_PAUSE, Closeable
from docket_supervisor.messages import (
    CountSuspects,
    HandedOver,
    HandOver,
    Late,
    Leave,
    Measure,
    Message,
    RedisSeen,
    Suspects,
    decode,
    encode,
)
from docket_supervisor.silence import Silence

logger = logging.getLogger("docket.supervisor")

RUN_STEWARD = "docket_supervisor.steward:run_steward"
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
YOUNG = 10.0
PATIENCE = 10.0
"""Seconds of silence after which a steward is replaced. Leases are renewed by the workers themselves meanwhile."""
FAREWELL = 2.0
"""Seconds for the steward of a former program to leave."""


class Stewardship:
    """A steward is never given up: without one nothing is lost (leases lapse), so there is no reason to stop for it."""

    def __init__(
        self,
        inherited: Inheritance,
        closing: Callable[[], Iterable[Closeable]],
        watched: Callable[[Channel, Callable[[Message], None]], None],
        suspects: Callable[[int], None],
        misconfigured: Callable[[], None],
        run_steward: str = RUN_STEWARD,
    ) -> None:
        self._inherited = inherited
        self._closing = closing
        self._watched = watched
        self._suspects = suspects
        self._misconfigured = misconfigured
        self._run_steward = run_steward
        self._orders: dict[int, HandOver] = {}
        self._numbered = 0
        self._channel: Channel | None = None
        self._pid = 0
        self._killed = False
        self._silence = Silence()
        self._forked_at = 0.0
        self._pause = FIRST_PAUSE
        self._retry_at = math.inf
        self._dismissed = False
        self._succeeds = False
        """The one that is there is the former program's."""
        self._kill_at = math.inf
        self.reachable: bool | None = None
        """Whether Redis answers; None while the steward has not said."""
        self.reachable_since = 0.0
        self.reason = ""

    def start(self) -> None:
        self._forked_at, self._killed = clock.monotonic(), False
        closing = [each for each in self._closing() if each is not self._inherited.entrance]
        try:
            self._pid, ours = fork_with_channel(self._main, closing=closing)
        except OSError as error:
            logger.warning("could not fork a steward: %s", error)
            self._retry_at = self._forked_at + UNFORKABLE_PAUSE
            return
        self._channel = ours
        self._retry_at = math.inf
        self._watched(ours, self._told)
        for order in self._orders.values():
            ours.send(order)
        logger.debug("steward %d forked", self._pid)

    @property
    def still(self) -> bool:
        """Nothing is on its way to or from the steward."""
        return self._channel is None or self._channel.still

    @property
    def bequest(self) -> dict[str, Any]:
        """For the program that takes our place."""
        return {
            "pid": self._pid,
            "channel": self._channel.fileno() if self._channel is not None else 0,
            "numbered": self._numbered,
            "orders": [encode(order).decode() for order in self._orders.values()],
        }

    def go_on(self, bequest: Mapping[str, Any]) -> None:
        """Instead of `start`: the steward of the former program leaves, and one of ours follows it."""
        self._numbered = bequest["numbered"]
        for line in bequest["orders"]:
            order = decode(line.encode())
            assert isinstance(order, HandOver)
            self._orders[order.order] = order
        if not (bequest["pid"] and bequest["channel"]):
            self.start()
            return
        self._pid, self._succeeds = bequest["pid"], True
        self._channel = Channel.at(bequest["channel"])
        self._watched(self._channel, self._told)
        self._channel.send(Leave())
        self._kill_at = clock.monotonic() + FAREWELL

    @property
    def settled(self) -> bool:
        """No order is unacknowledged."""
        return not self._orders

    @property
    def unsettled(self) -> list[str]:
        return [order.worker_id for order in self._orders.values()]

    def pids(self) -> list[int]:
        return [self._pid] if self._pid else []

    def hand_over(self, worker_id: str, cause: str, started: list[str], late: Sequence[Late] = ()) -> None:
        """What this worker held is given back, now or as soon as there are a steward and a Redis to do it."""
        self._numbered += 1
        order = HandOver(self._numbered, worker_id, cause, started, list(late))
        self._orders[order.order] = order
        if self._channel is not None:
            self._channel.send(order)

    def count_suspects(self) -> None:
        if self._channel is not None:
            self._channel.send(CountSuspects())

    def measure(self) -> None:
        """How much there is to do will soon be on the bulletin, if there are a steward and a Redis."""
        if self._channel is not None:
            self._channel.send(Measure())

    def turn(self, now: float) -> float:
        if now >= self._retry_at:
            self.start()
        self._mind_its_silence(now)
        if now >= self._kill_at:
            self._kill_at = math.inf
            self.kill()
        if self._channel is not None:
            self._channel.flush()
            if self._channel.unsent:
                return now + 0.05
        return min(self._retry_at, self._kill_at)

    def _mind_its_silence(self, now: float) -> None:
        """One that is stopped or hangs is worth nothing; another one takes every order up where it was."""
        ticked_at = self._inherited.board.bulletin.steward_ticked_at
        silent = self._silence.lasts(now, ticked_at)
        if self._pid and ticked_at > self._forked_at and silent > PATIENCE and not self._killed:
            logger.warning("steward %d has not turned its loop for %.0fs; killing it", self._pid, silent)
            self._killed = True
            self.kill()

    def died(self, death: Death) -> bool:
        """True if it was the steward; another one follows, soon if the last one had lived for a while."""
        if death.pid != self._pid:
            return False
        for message in self._channel.receive() if self._channel else ():
            self._told(message)
        self._pid = 0
        self._channel = None
        if self._succeeds:
            self._succeeds, self._kill_at = False, math.inf
            self._retry_at = clock.monotonic()
        elif death.code == ExitCode.USAGE:
            self._misconfigured()
        elif not self._dismissed:
            now = clock.monotonic()
            self._pause = (
                FIRST_PAUSE if now - self._forked_at > YOUNG else min(LONGEST_PAUSE, self._pause * 2)
            )
            # The first death costs no time at all: leases are not renewed meanwhile.
            self._retry_at = now if self._pause <= 2 * FIRST_PAUSE else now + self._pause
            logger.warning("steward %d %s; forking another", death.pid, death.cause)
        return True

    def dismiss(self) -> None:
        """It leaves, now that there is no worker left."""
        if self._dismissed:
            return
        self._dismissed = True
        self._retry_at = math.inf
        if self._channel is not None:
            self._channel.send(Leave())

    def kill(self) -> None:
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def _main(self, channel: Channel) -> int:
        # TERM and INT of a whole process group are for the supervisor to act on: leases are renewed through a drain.
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        return resolve(self._run_steward)(self._inherited, channel)

    def _told(self, message: Message) -> None:
        match message:
            case HandedOver():
                self._acknowledged(message)
            case Suspects():
                self._suspects(message.waiting)
            case RedisSeen():
                self.reachable, self.reason = message.reachable, message.reason
                self.reachable_since = clock.monotonic()
            case _:
                pass

    def _acknowledged(self, done: HandedOver) -> None:
        self._orders.pop(done.order, None)
        if done.returned or done.suspects or done.dead:
            logger.info(
                "handed over what worker %s held: %d returned, %d suspect, %d dead letters",
                done.worker_id,
                done.returned,
                done.suspects,
                len(done.dead),
            )
        for key in done.dead:
            logger.error("set aside execution %s as a dead letter: it kept killing its worker", key)
