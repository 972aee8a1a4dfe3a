"""Who sits in which seat, and what can be asked about all of them."""

from __future__ import annotations

from collections.abc import Sequence

from docket_supervisor.board import Seat
from docket_supervisor.posts import Post, Role, Sitting
from docket_supervisor.restarts import Restarts
from docket_supervisor.settings import SupervisorSettings


class Roster:
    """N slots, and as many seats for quarantine processes, the sickroom.

    Some seats more are free: a slot is handed on to a worker in one of them, and the seat of the old one is free then.
    """

    def __init__(self, settings: SupervisorSettings, seats: Sequence[Seat]) -> None:
        self._settings = settings
        self._posts = [
            Post(number, seat, self._budget(), *self._place(number)) for number, seat in enumerate(seats)
        ]
        self._slots = [post for post in self._posts if post.role is Role.WORKER]
        self._sickroom = [post for post in self._posts if post.quarantine]
        self.wanted = len(self._slots)

    def pids(self) -> list[int]:
        return [post.pid for post in self._posts if post.pid]

    @property
    def posts(self) -> tuple[Post, ...]:
        return tuple(self._posts)

    @property
    def slots(self) -> tuple[Post, ...]:
        """Who stands for each slot now."""
        return tuple(self._slots)

    @property
    def ready(self) -> int:
        """How many slots have a worker that is up."""
        return sum(post.sitting is Sitting.READY for post in self._slots)

    @property
    def complete(self) -> bool:
        """There are as many workers as there are to be, and each is ready."""
        return self.ready == self.wanted and not any(
            post.role is Role.RETIRING and post.slot >= self.wanted for post in self._posts
        )

    @property
    def busy(self) -> tuple[int, int]:
        """How many executions run on event loops, and how many in threads."""
        running = [each for post in self._posts if post.pid for each in post.seat.inflight]
        in_threads = sum(each.thread for each in running)
        return len(running) - in_threads, in_threads

    @property
    def healthy(self) -> bool:
        """No worker is past a limit without anything being done about it."""
        return not any(post.pid and post.seat.overdue for post in self._posts)

    @property
    def standing(self) -> str:
        """In a line for people."""
        places = len(self._slots) * self._settings.worker.concurrency
        on_loops, in_threads = self.busy
        return f"{self.ready} of {self.wanted} workers ready, busy {on_loops}+{in_threads}/{places}"

    @property
    def empty(self) -> bool:
        """No process is left."""
        return not self.pids()

    def _free_post(self) -> Post | None:
        return next((post for post in self._posts if post.role is Role.FREE), None)

    def _place(self, number: int) -> tuple[Role, int]:
        slots = self._settings.processes
        if number < slots:
            return Role.WORKER, number
        return (Role.QUARANTINE if number < slots + self._settings.most else Role.FREE), -1

    def _budget(self) -> Restarts:
        return Restarts(self._settings.max_restarts, self._settings.restart_window)
