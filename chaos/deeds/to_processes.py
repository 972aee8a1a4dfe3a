"""Deeds: signals to the processes of the service."""

from __future__ import annotations

import signal

from chaos.checker import SETTLING
from chaos.incidents import ALL
from chaos.patience import LEASE, LEFT_BY
from chaos.stage import Stage
from chaos.witness import seen
from docket import clock

LONGEST_FREEZE = 12.0
FOR_LONG = 6.0
"""Seconds that a run goes on which is given to somebody else and overlaps with the awakening of the frozen one."""
ROLLED_BY = 20.0
"""Seconds after which workers that were told to be replaced have been."""


def _one(stage: Stage, kind: str) -> int | None:
    pids = [pid for pid in stage.service.pids(kind) if pid not in stage.frozen]
    return stage.dice.choice(pids) if pids else None


def _hit(stage: Stage, kind: str, what: str, number: signal.Signals, lasting: float = 0.0) -> None:
    pid = _one(stage, kind)
    if pid is not None:
        until = clock.monotonic() + lasting if lasting else 0.0
        stage.incidents.happened(what, pid, kind, until=until)
        stage.deaths += kind in ("worker", "quarantine")
        stage.service.send(pid, number)


def kill_worker(stage: Stage) -> None:
    _hit(stage, "worker", "kill", signal.SIGKILL)


def kill_quarantine(stage: Stage) -> None:
    _hit(stage, "quarantine", "kill", signal.SIGKILL)


def kill_steward(stage: Stage) -> None:
    _hit(stage, "steward", "kill the steward", signal.SIGKILL)


def kill_template(stage: Stage) -> None:
    _hit(stage, "template", "kill the template", signal.SIGKILL)


def terminate_worker(stage: Stage) -> None:
    _hit(stage, "worker", "terminate", signal.SIGTERM, lasting=LEFT_BY)


def kill_supervisor(stage: Stage) -> None:
    """As an operator's init system does it, another one is started at once."""
    if not stage.is_away:
        stage.end_service("kill the supervisor", signal.SIGKILL, (-signal.SIGKILL,))


def terminate_service(stage: Stage) -> None:
    """Under load: it drains, and gives back what it cannot finish in time."""
    if not stage.is_away:
        stage.end_service("terminate the service", signal.SIGTERM, (0, 7))


def freeze_worker(stage: Stage) -> None:
    """Now and then for longer than a lease, so that what it runs is given to somebody else; then it wakes up."""
    _freeze(stage, stage.dice.uniform(0.1, LONGEST_FREEZE))


def freeze_beyond_the_lease(stage: Stage) -> None:
    """A moment later, and the one that runs what only one may run, if it can be found: another one of them waits."""
    seconds = LEASE + stage.dice.uniform(3.5, 5.0)
    for _ in range(2):
        stage.load.also("one_for_long", FOR_LONG)

    def freeze() -> None:
        runs = seen(stage.service.witness)
        running = [run.pid for run in runs if run.task == "one_for_long" and not run.ended]
        workers = set(stage.service.pids("worker")) - stage.frozen
        _freeze(stage, seconds, next((pid for pid in reversed(running) if pid in workers), None))

    stage.later(2 * SETTLING, freeze)


def _freeze(stage: Stage, seconds: float, pid: int | None = None) -> None:
    pid = pid or _one(stage, "worker")
    if pid is None:
        return

    def thaw() -> None:
        stage.frozen.discard(pid)
        stage.service.send(pid, signal.SIGCONT)
        stage.incidents.is_over(frozen, LEASE)

    # What the frozen one is told to do meanwhile, and what it does before it knows, comes of this too.
    frozen = stage.incidents.happened("freeze", pid, until=clock.monotonic() + seconds + LEASE)
    stage.frozen.add(pid)
    stage.deaths += 1
    stage.service.send(pid, signal.SIGSTOP)
    stage.later(seconds, thaw)


def _tell(stage: Stage, what: str, number: signal.Signals, *pids: int, lasting: float = 0.0) -> None:
    """`pids`: the processes that may have to leave for it, ALL if it concerns everybody."""
    if not stage.is_away:
        until = clock.monotonic() + lasting if lasting else 0.0
        for pid in pids or (ALL,):
            stage.incidents.happened(what, pid, number.name, until=until)
        stage.service.send(stage.service.pid, number)


def grow(stage: Stage) -> None:
    _tell(stage, "grow", signal.SIGTTIN)


def shrink(stage: Stage) -> None:
    """One of the workers leaves; which one, the supervisor chooses."""
    stage.deaths += 1
    _tell(stage, "shrink", signal.SIGTTOU, *stage.service.pids("worker"), lasting=ROLLED_BY)


def quiet(stage: Stage) -> None:
    """Nothing is claimed for a while."""
    seconds = stage.dice.uniform(0.5, 3.0)
    _tell(stage, "quiet", signal.SIGTSTP, lasting=seconds + 0.1)
    stage.later(seconds, lambda: stage.service.send(stage.service.pid, signal.SIGCONT))


def roll(stage: Stage) -> None:
    """All workers are replaced, one after another."""
    pids = stage.service.pids("worker")
    stage.deaths += len(pids)
    _tell(stage, "roll", signal.SIGHUP, *pids, lasting=ROLLED_BY)
