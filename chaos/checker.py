"""The verdict: every execution ran to its end, and every run more than that has an explanation that can be named."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from chaos.incidents import ALL, GRACEFUL, Incident, working_time
from chaos.load import Asked
from chaos.patience import HANG_TIMEOUT, LEASE
from chaos.witness import INTERRUPTED, RAISED, Run

SETTLING = 1.5
"""Seconds of a working service from the end of a body until its outcome is surely in Redis: a worker that dies within
them may have to run it again. Later than that a kill explains nothing."""

LONGEST_BLOCK = 8.0
"""Seconds that a loop may have been blocked when its process died of something else."""

LAPSING = ("freeze", "long pause of Redis", "failover of Redis")
"""What runs through one of these for long may have been given to somebody else."""

GIVEN_TO_OTHERS = 3.0
"""Seconds after the end of a frozen worker's lease by which another one must have begun something of what it ran."""

EARLY = 0.05
"""Seconds that witnesses may differ in what time it is."""


@dataclass(frozen=True)
class Duplicate:
    """A run after which there was another one. `cause`: "" if nobody knows why; `at`: when that happened."""

    run: Run
    cause: str
    at: float = 0.0

    def as_json(self) -> dict[str, Any]:
        run = self.run
        return {
            **{"key": run.key, "pid": run.pid, "attempt": run.attempt, "version": run.version},
            **{"began_at": run.began_at, "ended": run.ended, "ended_at": run.ended_at},
            **{"cause": self.cause or None, "cause_at": self.at},
        }


@dataclass
class Verdict:
    """What is wrong is listed; what is as it should be is counted."""

    scheduled: int = 0
    runs: int = 0
    duplicates: list[Duplicate] = field(default_factory=list[Duplicate])
    lost: list[str] = field(default_factory=list[str])
    """Keys that were scheduled and never ran to their end."""
    unheard_of: list[str] = field(default_factory=list[str])
    """Keys that ran and that nobody had scheduled."""
    limits_exceeded: list[str] = field(default_factory=list[str])
    out_of_order: list[str] = field(default_factory=list[str])
    """Generations of one key that overtook each other or ran at the same time."""
    early: list[str] = field(default_factory=list[str])
    kept: list[str] = field(default_factory=list[str])
    """Workers that were frozen for longer than their lease, and none of what they ran was given to others."""
    survived: list[str] = field(default_factory=list[str])
    """Poison that was run too often, or was not set aside."""
    miscounted: list[str] = field(default_factory=list[str])
    left_behind: list[str] = field(default_factory=list[str])
    too_slow: list[str] = field(default_factory=list[str])

    @property
    def unexplained(self) -> list[Duplicate]:
        return [each for each in self.duplicates if not each.cause]

    @property
    def explained(self) -> Counter[str]:
        """Duplicates by cause."""
        return Counter(each.cause for each in self.duplicates if each.cause)

    @property
    def problems(self) -> dict[str, list[str]]:
        """By kind; all empty if the evidence holds."""
        return {
            "lost": self.lost,
            "unheard of": self.unheard_of,
            "run again for no known cause": [str(each.run) for each in self.unexplained],
            "limit exceeded": self.limits_exceeded,
            "out of order": self.out_of_order,
            "early": self.early,
            "not given to others": self.kept,
            "poison": self.survived,
            "miscounted": self.miscounted,
            "left behind": self.left_behind,
            "too slow": self.too_slow,
        }

    @property
    def clean(self) -> bool:
        return not any(self.problems.values())

    def as_json(self) -> dict[str, Any]:
        return {
            **{"clean": self.clean, "scheduled": self.scheduled, "runs": self.runs},
            "problems": self.problems,
            "duplicates_by_cause": dict(self.explained),
            "duplicates": [each.as_json() for each in self.duplicates],
        }


def check(
    asked: Sequence[Asked],
    runs: Iterable[Run],
    incidents: Iterable[Incident],
    *,
    limits: Mapping[str, int] | None = None,
    dead: Collection[str] = (),
    max_crashes: int = 1,
) -> Verdict:
    """`dead`: the keys of the dead letters. Whatever was not asked for must not have run; what Redis has not
    acknowledged may have."""
    seen = list(runs)
    known = [*incidents, *deaths_by_work(seen)]
    by_call: defaultdict[tuple[str, int], list[Run]] = defaultdict(list)
    for run in seen:
        by_call[run.key, run.version].append(run)
    verdict = Verdict(sum(each.acknowledged for each in asked), len(seen))
    verdict.lost = _lost(asked, by_call)
    verdict.unheard_of = sorted({run.key for run in seen} - {each.key for each in asked})
    for several in by_call.values():
        verdict.duplicates += [_explained(run, after, known) for run, after in pairwise(several)]
    ends = {id(run): _end(run, known) for run in seen}
    for task, most in (limits or {}).items():
        verdict.limits_exceeded += _excess([run for run in seen if run.task == task], ends, task, most)
    verdict.out_of_order = _out_of_order(seen, ends)
    verdict.early = [
        f"{run.key} began {run.due_at - run.began_at:.3f}s before it was due"
        for run in seen
        if run.began_at < run.due_at - EARLY
    ]
    verdict.kept = _kept(seen, by_call, known, limits or ())
    verdict.survived = _survived(asked, by_call, dead, max_crashes)
    return verdict


def deaths_by_work(runs: Iterable[Run]) -> list[Incident]:
    """What the work itself has done to its process, told by the ledger."""
    found: list[Incident] = []
    for run in runs:
        if run.task == "poison":
            found.append(Incident("poison", run.pid, run.began_at, run.began_at + 1.0, run.key))
        elif run.task == "hang":
            # Silent from now on, and killed when its patience is over, which a machine under load notices late.
            found.append(Incident("hang", run.pid, run.began_at, run.began_at + 2 * HANG_TIMEOUT, run.key))
        elif run.task == "exhaust" and not run.ended:
            found.append(Incident("out of memory", run.pid, run.began_at, run.began_at + 5.0, run.key))
        elif run.task == "leak" and run.ended:
            # Two samples in a row, 5 s apart, then a replacement, then a drain.
            found.append(
                Incident("over its memory limit", run.pid, run.began_at, run.ended_at + 30.0, run.key)
            )
        elif run.task == "block":
            found.append(
                Incident(
                    "blocked loop",
                    run.pid,
                    run.began_at,
                    run.ended_at or run.began_at + LONGEST_BLOCK,
                    run.key,
                )
            )
    return found


def _lost(asked: Sequence[Asked], by_call: Mapping[tuple[str, int], list[Run]]) -> list[str]:
    """Of what is replaced again and again, the last version that is surely there must have run, or a later one."""
    done = {(key, version) for (key, version), runs in by_call.items() if any(run.done for run in runs)}
    newest: dict[str, int] = {}
    for each in asked:
        if each.acknowledged and not each.fatal:
            newest[each.key] = max(each.version, newest.get(each.key, 0))
    later: dict[str, int] = {}
    for key, version in done:
        later[key] = max(version, later.get(key, 0))
    return [key for key, version in newest.items() if later.get(key, -1) < version]


def _explained(run: Run, following: Run, incidents: Sequence[Incident]) -> Duplicate:
    """Why `following` was run although there had been `run`; no cause if nothing that we know of explains it."""
    if run.ended == RAISED and following.attempt > run.attempt:
        return Duplicate(run, "retry", run.ended_at)
    reaching = [
        each
        for each in incidents
        if each.concerns(run.pid) and each.over >= run.began_at and _in_time(each, run, following, incidents)
    ]
    if not reaching:
        return Duplicate(run, "")
    # What was done to that very process says more than what was done to all.
    cause = max(reaching, key=lambda each: (each.pid == run.pid, each.at))
    return Duplicate(run, cause.what, cause.at)


def _in_time(incident: Incident, run: Run, following: Run, incidents: Sequence[Incident]) -> bool:
    """A body that nobody saw end may be interrupted for as long as the next one has not begun; one that did, until it
    was settled, which takes a Redis that is there and a loop that turns."""
    if run.ended in ("", INTERRUPTED):
        return incident.at <= following.began_at
    delays = [each for each in incidents if each.concerns_settling_of(run.pid)]
    if incident.what in GRACEFUL:
        return any(each.at <= run.ended_at + SETTLING and each.over >= run.ended_at for each in delays)
    return working_time(run.ended_at, incident.at, delays) <= SETTLING


def _end(run: Run, incidents: Iterable[Incident]) -> float:
    """When it stopped to count: at its end, or when whoever ran it died or was not vouched for any more."""
    ends = run.ended_at if run.ended else float("inf")
    for each in incidents:
        if each.concerns(run.pid) and run.began_at <= each.over and each.at <= ends:
            lapsed = each.what in LAPSING and each.over - each.at > 1.5 * LEASE
            if not run.ended or lapsed:
                ends = min(ends, max(each.at, run.began_at))
    return ends


def _excess(runs: Sequence[Run], ends: Mapping[int, float], task: str, most: int) -> list[str]:
    """The moments at which more ran than may."""
    edges = sorted(
        [(run.began_at, 1, run.key) for run in runs] + [(ends[id(run)], -1, run.key) for run in runs],
        key=lambda edge: edge[:2],  # an end frees its place for who begins at the same moment
    )
    found: list[str] = []
    inside: Counter[str] = Counter()
    for at, change, key in edges:
        inside[key] += change
        now = +inside
        if change > 0 and now.total() > most:
            found.append(
                f"{now.total()} of {task} at {at:.3f}, at most {most} may run: {', '.join(sorted(now))}"
            )
    return found


def _out_of_order(runs: Iterable[Run], ends: Mapping[int, float]) -> list[str]:
    by_key: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.version:
            by_key[run.key].append(run)
    found: list[str] = []
    for key, several in by_key.items():
        for earlier, later in pairwise(several):
            if later.version < earlier.version:
                found.append(f"{key}: version {later.version} began after version {earlier.version}")
            elif later.version > earlier.version and ends[id(earlier)] > later.began_at:
                found.append(
                    f"{key}: version {later.version} began while version {earlier.version} was running"
                )
    return found


def _kept(
    runs: Iterable[Run],
    by_call: Mapping[tuple[str, int], list[Run]],
    incidents: Sequence[Incident],
    limited: Collection[str],
) -> list[str]:
    """Where something else kept everybody from working, nobody can tell; and what is limited may have to wait."""
    found: list[str] = []
    for freeze in incidents:
        by = freeze.at + LEASE + GIVEN_TO_OTHERS
        if freeze.what != "freeze" or freeze.over - LEASE < by:
            continue
        if any(each is not freeze and each.pid in (ALL, freeze.pid) and each.at < by and each.over > freeze.at
               for each in incidents):  # fmt: skip
            continue
        held = [run for run in runs if run.pid == freeze.pid and run.began_at < freeze.at and run.task not in limited
                and (not run.ended or run.ended_at > freeze.over - LEASE)]  # fmt: skip
        others = [
            other
            for run in held
            for other in by_call[run.key, run.version]
            if freeze.at < other.began_at <= by and other.pid != freeze.pid
        ]
        if held and not others:
            found.append(f"process {freeze.pid} was frozen, and nobody else began {held[0].key} by {by:.3f}")
    return found


def _survived(
    asked: Iterable[Asked], by_call: Mapping[tuple[str, int], list[Run]], dead: Collection[str], most: int
) -> list[str]:
    found: list[str] = []
    for each in asked:
        if not each.fatal:
            continue
        times = len(by_call.get((each.key, each.version), ()))
        if times > most:
            found.append(f"{each.key} was begun {times} times, at most {most} may be")
        if each.acknowledged and each.key not in dead:
            found.append(f"{each.key} has been begun {times} times and is no dead letter")
    return found


def check_counters(
    counters: Mapping[str, float], runs: Collection[Run], deaths: int, places: int
) -> list[str]:
    """What the service has counted agrees with what the witnesses saw: no increment is lost to the death of a process.

    A run is counted before its witness sees it begin, and after its witness saw it end, but before its outcome is
    settled. So a worker that dies may have counted a beginning more in each of its places, and fewer ends than were
    seen; but never fewer than are settled, which shows in that those were not run again.
    """
    by_call: defaultdict[tuple[str, int], list[Run]] = defaultdict(list)
    for run in runs:
        by_call[run.key, run.version].append(run)
    pairs = [pair for several in by_call.values() for pair in pairwise(several)]
    retried = sum(run.ended == RAISED and following.attempt > run.attempt for run, following in pairs)
    finished = sum(any(run.done for run in several) for several in by_call.values())
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
