"""Exit codes of `docket-supervise`, and of the processes that it forks."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum


class ExitCode(IntEnum):
    """The docstring of `--help` and the unit file rely on these numbers."""

    CLEAN = 0
    BUG = 1
    USAGE = 2
    IMPORT = 3
    NOT_READY = 4
    GAVE_UP = 5
    NO_REDIS = 6
    HANDED_BACK = 7
    TAKEN = 8
    STOPPED_BY_INT = 130
    STOPPED_BY_QUIT = 131
    STOPPED_BY_TERM = 143


class Verdict(IntEnum):
    """Exit codes of the commands that speak to a running supervisor."""

    ACCEPTED = 0
    REFUSED = 1
    USAGE = 2
    NOBODY = 4


VERDICTS: dict[Verdict, str] = {
    Verdict.ACCEPTED: "accepted",
    Verdict.REFUSED: "refused, for the reason given",
    Verdict.USAGE: "usage",
    Verdict.NOBODY: "no supervisor there",
}

MEANINGS: dict[ExitCode, str] = {
    ExitCode.CLEAN: "clean drain",
    ExitCode.BUG: "a bug in docket",
    ExitCode.USAGE: "usage or configuration",
    ExitCode.IMPORT: "the task modules failed to import",
    ExitCode.NOT_READY: "no worker became ready within --boot-timeout",
    ExitCode.GAVE_UP: "the restart budget of every slot is used up",
    ExitCode.NO_REDIS: "Redis unreachable at start (only with --require-redis)",
    ExitCode.HANDED_BACK: "the drain deadline passed; unfinished work was handed back",
    ExitCode.TAKEN: "the pidfile or the control socket is taken",
    ExitCode.STOPPED_BY_INT: "immediate stop by INT",
    ExitCode.STOPPED_BY_QUIT: "immediate stop by QUIT",
    ExitCode.STOPPED_BY_TERM: "immediate stop by TERM",
}


def as_help(meanings: Mapping[ExitCode, str] | Mapping[Verdict, str] = MEANINGS) -> str:
    return "\n".join(f"{code.value} {meaning}" for code, meaning in meanings.items())
