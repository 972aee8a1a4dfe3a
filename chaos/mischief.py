"""The schedule that a seed decides: which deed, and when the next one follows."""

from __future__ import annotations

import random
from collections.abc import Iterator

from chaos.drills import Deed, Drill
from chaos.stage import Stage
from docket import clock


class Mischief:
    def __init__(self, stage: Stage, drill: Drill, seed: int) -> None:
        self._stage, self._drill = stage, drill
        self._dice = random.Random(seed)
        self._deeds = self._schedule()
        self._done = 0
        self._seed = seed
        self._next_at = clock.monotonic()

    def turn(self) -> None:
        """What is due now."""
        now = clock.monotonic()
        if now >= self._next_at:
            # How long and which of several, the same again with the same seed, however many processes there were.
            self._done += 1
            self._stage.dice.seed(f"{self._seed} {self._done}")
            next(self._deeds)(self._stage)
            self._next_at = now + self._dice.uniform(*self._drill.pause)

    def _schedule(self) -> Iterator[Deed]:
        """Everything once, so that a short drill knows it too; then by weight."""
        deeds, weights = list(self._drill.deeds), list(self._drill.deeds.values())
        yield from self._dice.sample(deeds, len(deeds))
        while True:
            yield from self._dice.choices(deeds, weights)
