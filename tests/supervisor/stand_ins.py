"""Stand-ins for the runtime and the steward, which do what a test writes into files: real processes without Redis."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from docket.settings import DocketSettings
from docket_runtime.settings import WorkerSettings
from docket_runtime.surroundings import Surroundings
from docket_supervisor import titles
from docket_supervisor.channel import Channel
from docket_supervisor.child import Inheritance
from docket_supervisor.messages import CountSuspects, HandedOver, HandOver, Leave, RedisSeen, Suspects

SCHEME = "stand-in://"


def run_worker(docket: DocketSettings, worker: WorkerSettings, surroundings: Surroundings) -> int:
    """Obeys the file `at-start`, becomes ready, then obeys `do-PID` until it is told to leave."""
    return _Worker(Path(docket.url.removeprefix(SCHEME)), worker, surroundings).run()


class _Worker:
    def __init__(self, folder: Path, worker: WorkerSettings, surroundings: Surroundings) -> None:
        self.folder = folder
        self.worker = worker
        self.surroundings = surroundings
        self.board = surroundings.board
        self.terms = 0
        self.busy = False
        self.stubborn = False

    def run(self) -> int:
        signal.signal(signal.SIGTERM, self._term)
        signal.signal(signal.SIGCONT, lambda number, frame: self._heed_quiet())
        self._obey(self.folder / "at-start", keep=True)
        self.board.enlisted(f"stand-in/{os.getpid()}")
        self._tell("ready", quarantine=self.surroundings.quarantine, concurrency=self.worker.concurrency)
        self._heed_quiet()
        if self.surroundings.quarantine:
            return self._leave(0)
        while True:
            self._obey(self.folder / f"do-{os.getpid()}")
            if self.terms == 0 and self._orphaned():
                self._tell("orphaned")
                return self._leave(0)
            if self.terms and not self.stubborn and (self.terms > 2 or not self.busy or self._late()):
                return self._leave(143 if self.terms > 2 else 7 if self.busy else 0)
            time.sleep(0.002)

    def _heed_quiet(self) -> None:
        self.board.phase("quiet" if self.board.quiet else "working")

    def _obey(self, orders: Path, keep: bool = False) -> None:
        try:
            order = orders.read_text().split()
        except FileNotFoundError:
            return
        if not keep:
            orders.unlink()
        match order:
            case ["exit", code]:
                os._exit(int(code))
            case ["kill", name]:
                os.kill(os.getpid(), signal.Signals[name])
                time.sleep(60)
            case ["sleep", seconds]:
                time.sleep(float(seconds))
            case ["begin", *keys]:
                self.busy = True
                for place, key in enumerate(keys):
                    self.board.began(place, f"d:{place}-0", key, "task", False)
            case ["settle"]:
                self.board.started("task", False, 0.0)
                self.board.finished("task", "completed", False, 0.0)
                self.board.ended(0)
                self.busy = False
            case ["stubborn"]:
                self.stubborn = self.busy = True
            case ["spawn", *how]:
                self._spawn(how)
            case ["vouched"]:
                self._tell("vouched", answer=self.surroundings.vouched())
            case _:
                raise ValueError(order)
        self._tell("obeyed", order=" ".join(order))

    def _spawn(self, how: list[str]) -> None:
        """A program that does not end by itself, whose pid is written down; `deaf` ones ignore TERM."""
        deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" if "deaf" in how else ""
        program = f"{deaf}import time; print(flush=True); time.sleep(600)"
        environment = dict(os.environ)
        if "freed" in how:
            del environment["DOCKET_WORKER_PROCESS"]
        child = subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session="apart" in how,
        )
        assert child.stdout is not None
        child.stdout.readline()
        self._tell("spawned", child=child.pid)

    def _orphaned(self) -> bool:
        assert self.surroundings.orphaned is not None
        return bool(select.select([self.surroundings.orphaned], [], [], 0)[0])

    def _late(self) -> bool:
        deadline = self.board.drain_at
        return deadline is not None and time.monotonic() >= deadline

    def _leave(self, code: int) -> int:
        self._tell("left")
        self.board.enlisted("")
        self.board.phase("left")
        return code

    def _term(self, number: int, frame: Any) -> None:
        self.terms += 1

    def _tell(self, event: str, **more: object) -> None:
        tell(self.folder, {"event": event, "pid": os.getpid(), **more})


def tell(folder: Path, line: dict[str, object]) -> None:
    with (folder / "events").open("a") as events:
        events.write(json.dumps(line) + "\n")


def run_steward(inherited: Inheritance, channel: Channel) -> int:
    """Writes every order down and acknowledges it, unless there is a file `unreachable`; vouches for everybody."""
    titles.steward(inherited.settings.docket.name)
    folder = Path(inherited.settings.docket.url.removeprefix(SCHEME))
    tell(folder, {"event": "steward", "pid": os.getpid()})
    reachable: bool | None = None
    waiting: list[HandOver] = []
    while not channel.ended:
        select.select([channel], [], [], 0.02)
        for message in channel.receive():
            match message:
                case HandOver():
                    waiting.append(message)
                case CountSuspects():
                    channel.send(Suspects(0))
                case Leave():
                    return 0
                case _:
                    pass
        if (now := not (folder / "unreachable").exists()) is not reachable:
            reachable = now
            channel.send(RedisSeen(now, "" if now else "refused"))
        for seat in inherited.board.seats:
            if seat.pid and reachable:
                seat.vouch(seat.pid)
        for order in waiting if reachable else ():
            tell(
                folder,
                {
                    "event": "handed over",
                    "id": order.worker_id,
                    "cause": order.cause,
                    "started": order.started,
                },
            )
            channel.send(HandedOver(order.order, order.worker_id, 0, len(order.started), []))
            channel.send(Suspects(len(order.started)))
        waiting = [] if reachable else waiting
    time.sleep(0.1)
    tell(folder, {"event": "steward orphaned", "pid": os.getpid()})
    return 0
