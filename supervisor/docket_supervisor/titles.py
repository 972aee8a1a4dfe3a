"""What `ps` shows: one title for each kind of process, all beginning with `docket: `."""

from __future__ import annotations

from collections.abc import Callable

from setproctitle import setproctitle

WORKER = "docket: worker"
QUARANTINE = "docket: quarantine"


def supervisor(docket: str) -> None:
    setproctitle(f"docket: supervisor {docket}")


def template(docket: str) -> None:
    setproctitle(f"docket: template {docket}")


def steward(docket: str) -> None:
    setproctitle(f"docket: steward {docket}")


def quarantine(docket: str) -> Callable[[int, int], None]:
    """The title stays as it is: such a process runs one execution and leaves."""
    setproctitle(f"{QUARANTINE} {docket}")
    return lambda on_the_loop, in_threads: None


def spare(docket: str) -> Callable[[int, int], None]:
    """The title stays as it is while such a process waits."""
    setproctitle(f"docket: spare {docket}")
    return lambda on_the_loop, in_threads: None


def worker(docket: str, slot: int, generation: int, concurrency: int) -> Callable[[int, int], None]:
    """Sets the title of an idle worker; call what is returned when the numbers change."""

    def busy(on_the_loop: int, in_threads: int) -> None:
        setproctitle(
            f"{WORKER} {docket} [{slot}] gen {generation} busy {on_the_loop}+{in_threads}/{concurrency}"
        )

    busy(0, 0)
    return busy
