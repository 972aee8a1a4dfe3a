"""The workers of one contestant, however many processes they are and whoever starts them.

Ours, pydocket and the floor are programs of this folder that say when they are up and begin when they are told. A peer
is the command of its own project: it is up once it runs tasks, and is looked at from there on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.contestants import Broken, Contestant, Player
from tests.benchmarks.peers import Peer, Work
from tests.benchmarks.programs import marks
from tests.benchmarks.server import Usage
from tests.benchmarks.service import Processes, Service

COMING_UP = 30.0
WARM_UP = 20
"""Tasks for each process that a peer has run before it counts as up."""


@dataclass(frozen=True)
class Looked:
    """How far they are: tasks started, CPU seconds of the workers, what Redis has done."""

    ran: int
    cpu: float
    usage: Usage


class Crew:
    """Waiting for `begin`."""

    def __init__(self, bench: Bench, contestant: Contestant, folder: Path, count: int, work: Work) -> None:
        self._bench, self._contestant, self._folder = bench, contestant, folder
        self._count, self._work = count, work
        self._stack = ExitStack()
        self._players: list[Player] = []
        self._service: Processes | None = None
        if isinstance(contestant, Peer):
            return
        with ExitStack() as undo:
            for _ in range(work.processes):
                player = Player(
                    contestant, bench.server.url, folder, "work", count=count, concurrency=work.concurrency
                )
                self._players.append(undo.enter_context(player))
            for player in self._players:
                player.answer()
            self._stack = undo.pop_all()

    def begin(self) -> Looked:
        """They work. With a peer, the first task has been started."""
        if not isinstance(self._contestant, Peer):
            looked = Looked(0, 0.0, self._bench.server.usage())
            for player in self._players:
                player.tell()
            return looked
        service = start(self._bench, self._contestant, self._folder, self._work, self._count)
        self._service = self._stack.enter_context(service)
        self._wait_for_the_first(service)
        return self._look()

    def _wait_for_the_first(self, service: Processes) -> None:
        give_up_at = time.monotonic() + COMING_UP
        while not any(self._folder.glob("*.marks")):
            if service.has_ended or time.monotonic() > give_up_at:
                raise Broken(f"{self._contestant.name}: did not begin to work:\n{service.log()[-2000:]}")
            time.sleep(0.005)

    def _look(self) -> Looked:
        assert self._service is not None
        ran = marks.ran(self._folder, self._count)
        return Looked(ran, self._service.cpu(), self._bench.server.usage())

    def end(self) -> Looked:
        """What it took until now; nothing more is asked of them."""
        if self._service is not None:
            return self._look()
        usage = self._bench.server.usage()
        for player in self._players:
            player.tell()
        cpu = sum(player.answer()["cpu"] for player in self._players)
        return Looked(marks.ran(self._folder, self._count), cpu, usage)

    def close(self) -> None:
        self._stack.close()


def start(bench: Bench, peer: Peer, folder: Path, work: Work, count: int) -> Processes:
    """What the peer's project tells people to start."""
    work = peer.suited(work)
    commands = [command.format(url=bench.server.url) for command in peer.commands(work)]
    environment = peer.environment_for(bench.server.url, folder, count, work.concurrency)
    environment |= peer.variables(work)
    return Processes(peer, environment, commands, folder)


@contextmanager
def standing_by(
    bench: Bench,
    contestant: Contestant,
    folder: Path,
    processes: int,
    count: int,
    task: str,
    concurrency: int = 10,
) -> Iterator[Processes]:
    """The whole service, as its users start it, which has run its first tasks: their numbers begin at `count`."""
    warm_up = WARM_UP * processes
    with ExitStack() as stack:
        if isinstance(contestant, Peer):
            work = Work(task, processes, concurrency)
            service = stack.enter_context(start(bench, contestant, folder, work, count + warm_up))
        else:
            service = stack.enter_context(
                Service(
                    contestant,
                    bench.server,
                    folder,
                    processes,
                    count=count + warm_up,
                    concurrency=concurrency,
                )
            )
        warm = {"task": contestant.task("nothing"), "count": warm_up, "first": count, "bulk": False}
        contestant.ask(bench.server.url, folder, "enqueue", **warm)
        give_up_at = time.monotonic() + COMING_UP
        while marks.ran(folder, count + warm_up) < warm_up:
            if service.has_ended or time.monotonic() > give_up_at:
                raise Broken(f"{contestant.name}: did not run its first tasks:\n{service.log()[-2000:]}")
            time.sleep(0.05)
        yield service
