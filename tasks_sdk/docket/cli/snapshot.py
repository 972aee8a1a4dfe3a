"""`docket snapshot`: a picture of what waits, runs or was set aside; of a large docket, of what comes first.

No argument of a task is unpickled for it, so neither an unknown task nor a hostile one can spoil the picture.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from docket import clock
from docket.cli import dead, options, printing
from docket.cli.session import (
    EXIT_CODES,
    IMPORT_FAILED,
    USAGE,
    leave,
    opened,
    registering,
    remark_if_unused,
)
from docket.execution import ExecutionState
from docket.snapshot import DocketSnapshot
from docket.statistics import Statistics, TaskStatistics
from docket.sync import Docket, Execution

EPILOG = f"""\b
What runs is always shown whole, and what is counted is counted whole.
Overdue is what waits although its moment has come.

\b
{EXIT_CODES}
{IMPORT_FAILED} --tasks failed to import"""

Stats = Annotated[bool, typer.Option("--stats", help="Show how much of each task waits, runs or is overdue.")]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--tasks",
        help="Point out work for which there is no function among these; repeatable.",
        metavar="MODULE:COLLECTION",
    ),
]

Limit = Annotated[
    int,
    options.number("--limit", "Show so many of what waits, and of the dead letters, the first; 0: all."),
]

_LIMIT = 1000

_COLUMNS = ("When", "Function", "Key", "State", "Worker", "Started")

_STATISTICS = (
    "Function",
    "Total",
    "Running",
    "Queued",
    "Scheduled",
    "Overdue",
    "Dead",
    "Oldest Queued",
    "Latest Queued",
    "Oldest Overdue",
)


def snapshot(
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    stats: Stats = False,
    tasks: Tasks = None,
    limit: Limit = options.shown(_LIMIT),
    as_json: options.AsJSON = False,
) -> None:
    """Show what waits, runs or was set aside."""
    if limit < 0:
        leave(f"expected --limit to be at least 0, got {limit}", USAGE)
    statistics = Statistics(clock.now())
    with opened(docket, url) as it:
        registering(it, tasks or ())
        see = statistics.see if stats or tasks or as_json else None
        taken = it.store.perform(it.core.snapshot(limit or None, see))
        counts, by_task = _counts(it, taken), statistics.per_task
        unknown = [each.task for each in by_task if each.task not in it.tasks] if tasks else None
        if not any(counts.values()):
            remark_if_unused(it)
    if as_json:
        printing.print_json(_as_data(docket, taken, counts, by_task, unknown))
        return
    lines: list[Any] = [
        f"Docket: '{printing.printable(docket)}' as of {taken.taken.astimezone():%Y-%m-%d %H:%M:%S}",
        ", ".join(f"{count} {name}" for name, count in counts.items()),
    ]
    if taken.running or taken.future:
        rows = [_row(execution, taken) for execution in (*taken.running, *taken.future)]
        lines.append(printing.table("", _COLUMNS, rows))
    if taken.dead:
        lines.append(dead.table("Dead letters", taken.dead, taken.taken))
    if taken.omitted:
        lines.append(f"{taken.omitted} more are not shown; --limit N shows more, --limit 0 all")
    if stats and by_task:
        lines.append(printing.table("Tasks", _STATISTICS, [_statistics_row(each, taken) for each in by_task]))
    if unknown:
        lines.append(printing.printable(f"Not among the given tasks: {', '.join(unknown)}"))
    printing.show(*lines)


def _counts(it: Docket, taken: DocketSnapshot[Execution]) -> dict[str, int]:
    if taken.omitted:
        counted = it.store.perform(it.core.figures())
        due, scheduled, dead = counted.due + counted.waiting, counted.scheduled, counted.dead
    else:
        scheduled = sum(
            execution.state is ExecutionState.SCHEDULED and execution.when > taken.taken
            for execution in taken.future
        )
        due, dead = len(taken.future) - scheduled, len(taken.dead)
    return {
        "due": due,
        "scheduled": scheduled,
        "running": len(taken.running),
        "dead": dead,
        "workers": len(taken.workers),
    }


def _row(execution: Execution, taken: DocketSnapshot[Execution]) -> tuple[str, ...]:
    return (
        printing.clock_time(execution.when, taken.taken),
        execution.function_name,
        execution.key,
        str(execution.state),
        execution.worker or "",
        printing.clock_time(execution.started_at, taken.taken),
    )


def _statistics_row(each: TaskStatistics, taken: DocketSnapshot[Execution]) -> tuple[str, ...]:
    counts = (each.total, each.running, each.queued, each.scheduled, each.overdue, each.dead)
    moments = (each.oldest_queued, each.latest_queued, each.oldest_overdue)
    return (
        each.task,
        *map(str, counts),
        *(printing.clock_time(moment, taken.taken) for moment in moments),
    )


def _statistics_as_data(each: TaskStatistics, taken: DocketSnapshot[Execution]) -> dict[str, Any]:
    late = None if each.oldest_overdue is None else taken.taken - each.oldest_overdue
    return {
        "task": each.task,
        "total": each.total,
        "running": each.running,
        "queued": each.queued,
        "scheduled": each.scheduled,
        "overdue": each.overdue,
        "dead": each.dead,
        "oldest_queued": printing.iso(each.oldest_queued),
        "latest_queued": printing.iso(each.latest_queued),
        "oldest_overdue": printing.iso(each.oldest_overdue),
        "oldest_overdue_s": None if late is None else late.total_seconds(),
    }


def _as_data(
    name: str,
    taken: DocketSnapshot[Execution],
    counts: dict[str, int],
    by_task: list[TaskStatistics],
    unknown: list[str] | None,
) -> dict[str, Any]:
    return {
        "docket": name,
        "taken": printing.iso(taken.taken),
        "counts": counts,
        "omitted": taken.omitted,
        "running": [_execution_as_data(execution) for execution in taken.running],
        "future": [_execution_as_data(execution) for execution in taken.future],
        "dead": [_execution_as_data(execution) for execution in taken.dead],
        "tasks": [_statistics_as_data(each, taken) for each in by_task],
        "workers": [worker.name for worker in taken.workers],
        **({} if unknown is None else {"unknown_tasks": unknown}),
    }


def _execution_as_data(execution: Execution) -> dict[str, Any]:
    return {
        "key": execution.key,
        "function": execution.function_name,
        "state": str(execution.state),
        "when": printing.iso(execution.when),
        "worker": execution.worker,
        "started_at": printing.iso(execution.started_at),
        "completed_at": printing.iso(execution.completed_at),
        "attempt": execution.attempt,
        "redelivered": execution.redelivered,
        "crashes": execution.crashes,
        "error": execution.error,
    }
