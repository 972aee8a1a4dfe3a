"""Where workers come from: the code in service and, while a roll goes on, one more."""

from __future__ import annotations

from collections.abc import Callable

from docket_supervisor.deaths import Death
from docket_supervisor.hiring import Generations, Hiring


class Sources:
    def __init__(self, make: Callable[[Generations], Hiring]) -> None:
        self._make = make
        self._numbers = Generations()
        self._dismissed: list[Hiring] = []
        self._other: Hiring | None = None
        """On trial, or the predecessor of the one in service, which may have to come back."""

    def start(self) -> None:
        """Workers can be hired, or will be able to be; `current` says from where."""
        self.current = self._make(self._numbers)
        self.current.start()

    def go_on(self, generation: int, bequest: tuple[int, int] | None) -> None:
        """Instead of `start`: what the former program had in service is in service still."""
        self._numbers = Generations(generation - 1)
        self.current = self._make(self._numbers)
        if bequest is None:
            self.current.start()
        else:
            self.current.adopt(bequest)

    @property
    def settled(self) -> bool:
        """There is one, and nothing that it was asked for is on its way."""
        return self._other is None and self.current.settled

    def try_another(self) -> None:
        """Whatever the task modules are now is imported, side by side with what is in service."""
        self._other = self._make(self._numbers)
        self._other.start()

    @property
    def trial(self) -> Hiring:
        """The one that is not in service; there is one from `try_another` to `discard`."""
        assert self._other is not None
        return self._other

    def swap(self) -> None:
        """The other one is in service."""
        self.current, self._other = self.trial, self.current

    def discard(self) -> None:
        """There is no other one any more."""
        if self._other is not None:
            self._numbers.give_back(self._other.generation)
            self._other.dismiss()
            self._dismissed.append(self._other)
            self._other = None

    # All of them

    def turn(self, now: float) -> float:
        return min(source.turn(now) for source in self._all())

    def died(self, death: Death) -> bool:
        """True if it was a template."""
        return any(source.died(death) for source in self._all())

    def pids(self) -> list[int]:
        return [pid for source in self._all() for pid in source.pids()]

    def dismiss(self) -> None:
        for source in self._all():
            source.dismiss()

    def _all(self) -> list[Hiring]:
        # Those who were dismissed are remembered until they have left, for their processes are still ours to reap.
        self._dismissed = [source for source in self._dismissed if source.pids()]
        return [self.current, *([self._other] if self._other else []), *self._dismissed]
