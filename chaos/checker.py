"""The verdict: every execution ran to its end, and every run more than that has an explanation that can be named."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from chaos.incidents import Incident
from chaos.witness import INTERRUPTED, RAISED, Run

SETTLING = 1.5
"""Seconds from the end of a body until its outcome is surely in Redis: a worker that dies within them may have to run
it again. Later than that a kill explains nothing."""


@dataclass(frozen=True)
class Duplicate:
    """A run after which there was another one. `cause`: "" if nobody knows why."""

    run: Run
    cause: str


@dataclass
class Verdict:
    """What is wrong is listed; what is as it should be is counted."""

    scheduled: int = 0
    runs: int = 0
    lost: list[str] = field(default_factory=list[str])
    """Keys that were scheduled and never ran to their end."""
    unheard_of: list[str] = field(default_factory=list[str])
    """Keys that ran and that nobody had scheduled."""
    unexplained: list[Duplicate] = field(default_factory=list[Duplicate])
    explained: Counter[str] = field(default_factory=Counter[str])
    """Duplicates by cause."""
    miscounted: list[str] = field(default_factory=list[str])
    left_behind: list[str] = field(default_factory=list[str])

    @property
    def clean(self) -> bool:
        return not (self.lost or self.unheard_of or self.unexplained or self.miscounted or self.left_behind)

    def as_json(self) -> dict[str, Any]:
        return {
            "clean": self.clean,
            "scheduled": self.scheduled,
            "runs": self.runs,
            "lost": self.lost,
            "unheard_of": self.unheard_of,
            "unexplained": [vars(each.run) for each in self.unexplained],
            "duplicates": dict(self.explained),
            "miscounted": self.miscounted,
            "left_behind": self.left_behind,
        }


def check(scheduled: Collection[str], runs: Iterable[Run], incidents: Iterable[Incident]) -> Verdict:
    """`scheduled`: the keys that Redis has acknowledged; whatever else ran must not have."""
    by_key: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_key[run.key].append(run)
    known = list(incidents)
    verdict = Verdict(len(scheduled), sum(map(len, by_key.values())))
    verdict.lost = [key for key in scheduled if not any(run.done for run in by_key.get(key, ()))]
    verdict.unheard_of = sorted(by_key.keys() - set(scheduled))
    for several in by_key.values():
        for run, following in pairwise(several):
            cause = _cause(run, following, known)
            if cause:
                verdict.explained[cause] += 1
            else:
                verdict.unexplained.append(Duplicate(run, ""))
    return verdict


def _cause(run: Run, following: Run, incidents: Iterable[Incident]) -> str:
    """Why `following` was run although there had been `run`; "" if nothing that we know of explains it."""
    if run.ended == RAISED and following.attempt > run.attempt:
        return "retry"
    # A body that nobody saw end may be interrupted for as long as the next one has not begun.
    until = following.began_at if run.ended in ("", INTERRUPTED) else run.ended_at + SETTLING
    for incident in incidents:
        if incident.concerns(run.pid) and incident.at <= until and _reaches(incident, run):
            return incident.what
    return ""


def _reaches(incident: Incident, run: Run) -> bool:
    """It came after the run began; or lasted until then, as a freeze does and the drain of a whole service."""
    return max(incident.at, incident.until) >= run.began_at


def check_counters(
    counters: Mapping[str, float], runs: Collection[Run], deaths: int, places: int
) -> list[str]:
    """What the service has counted agrees with what the witnesses saw: no increment is lost to the death of a process.

    A run is counted before its witness sees it begin, and after its witness saw it end, but before its outcome is
    settled. So a worker that dies may have counted a beginning more in each of its places, and fewer ends than were
    seen; but never fewer than are settled, which shows in that those were not run again.
    """
    by_key: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_key[run.key].append(run)
    pairs = [pair for several in by_key.values() for pair in pairwise(several)]
    retried = sum(run.ended == RAISED and following.attempt > run.attempt for run, following in pairs)
    finished = sum(any(run.done for run in several) for several in by_key.values())
    found: list[str] = []
    for counter, least, most in (
        ("started", len(runs), len(runs) + deaths * places),
        ("succeeded", finished, sum(run.done for run in runs)),
        ("failed", retried, sum(run.ended == RAISED for run in runs)),
    ):
        counted = int(counters.get(counter, 0))
        if not least <= counted <= most:
            found.append(f"{counted} runs were counted as {counter}, where {least} to {most} were seen")
    return found
