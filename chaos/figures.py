"""How soon all goes on: from a kill until what it interrupted runs again, and until as much is begun as before."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from chaos.incidents import ALL, AWAY, Incident, working_time
from chaos.witness import Run

WINDOW = 0.5
"""Seconds over which a throughput is taken: two batches of the load."""

AS_BEFORE = 0.7
"""The part of the usual throughput that counts as having come back: batches differ."""

RUNNING_AGAIN_WITHIN = 1.0
BACK_WITHIN = 1.0
_STEP = 0.05


@dataclass(frozen=True)
class Figures:
    """Seconds, of which those are left out in which nobody could work. None: nothing was there to measure."""

    kills: int
    """Those that interrupted something."""
    again_p50: float | None
    again_p99: float | None
    """From a kill until the first of what it interrupted ran again."""
    all_again_p99: float | None
    """The same for each interrupted run; suspects are tried alone, so these may have to wait for each other."""
    back_p99: float | None
    """From a kill until the throughput was what it had been."""
    throughput: float
    """Runs begun per second, when nothing was away."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def problems(self) -> list[str]:
        found: list[str] = []
        if self.again_p99 is not None and self.again_p99 >= RUNNING_AGAIN_WITHIN:
            found.append(
                f"from a kill until work ran again it took {self.again_p99:.2f}s (p99), expected less than "
                f"{RUNNING_AGAIN_WITHIN:g}s"
            )
        if self.back_p99 is not None and self.back_p99 > BACK_WITHIN:
            found.append(
                f"the throughput was back {self.back_p99:.2f}s after a kill (p99), expected within {BACK_WITHIN:g}s"
            )
        return found


def measure(runs: Sequence[Run], incidents: Sequence[Incident], until: float) -> Figures:
    """`until`: when the load ended."""
    everywhere = [each for each in incidents if each.pid == ALL and each.what in AWAY]
    kills = [each for each in incidents if each.what == "kill" and each.at < until]
    followers = _followers(runs)
    first: list[float] = []
    every: list[float] = []
    for kill in kills:
        again = [
            max(0.0, working_time(kill.at, followers[id(run)].began_at, everywhere))
            for run in runs
            if run.pid == kill.pid and run.began_at < kill.at and not run.ended and id(run) in followers
        ]
        if again:
            first.append(min(again))
            every += again
    starts = sorted(run.began_at for run in runs)
    usual = _usual(starts, everywhere, until)
    back = [_back(kill.at, starts, usual, everywhere, until) for kill in kills]
    seconds = [each for each in back if each is not None]
    return Figures(
        kills=len(first),
        again_p50=_percentile(first, 50),
        again_p99=_percentile(first, 99),
        all_again_p99=_percentile(every, 99),
        back_p99=_percentile(seconds, 99),
        throughput=round(usual / WINDOW, 1),
    )


def _followers(runs: Sequence[Run]) -> dict[int, Run]:
    """For each run the next one of the same call."""
    by_call: defaultdict[tuple[str, int], list[Run]] = defaultdict(list)
    for run in runs:
        by_call[run.key, run.version].append(run)
    return {id(run): after for several in by_call.values() for run, after in pairwise(several)}


def _usual(starts: Sequence[float], everywhere: Sequence[Incident], until: float) -> float:
    """Runs begun in a window in which nothing was away."""
    if not starts:
        return 0.0
    counts: list[int] = []
    at = starts[0]
    while at + WINDOW <= until:
        if _is_undisturbed(at, everywhere):
            counts.append(_begun(starts, at))
        at += WINDOW
    return median(counts) if counts else 0.0


def _back(
    since: float, starts: Sequence[float], usual: float, everywhere: Sequence[Incident], until: float
) -> float | None:
    """None if the load ended before it could be seen."""
    at = since
    while at + WINDOW <= until:
        if _is_undisturbed(at, everywhere) and _begun(starts, at) >= AS_BEFORE * usual:
            return max(0.0, working_time(since, at, everywhere))
        at += _STEP
    return None


def _is_undisturbed(at: float, everywhere: Sequence[Incident]) -> bool:
    return math.isclose(working_time(at, at + WINDOW, everywhere), WINDOW)


def _begun(starts: Sequence[float], at: float) -> int:
    return bisect_left(starts, at + WINDOW) - bisect_left(starts, at)


def _percentile(values: Sequence[float], percent: int) -> float | None:
    """The smallest value that so many percent do not exceed."""
    if not values:
        return None
    return round(sorted(values)[math.ceil(len(values) * percent / 100) - 1], 3)
