"""`docket snapshot`: a picture of everything that waits, runs or was set aside.

No argument of a task is unpickled for it, so neither an unknown task nor a hostile one can spoil the picture.
"""

from __future__ import annotations

from typing import Any

from docket.cli import dead, options, printing
from docket.cli.session import opened
from docket.execution import ExecutionState
from docket.snapshot import DocketSnapshot
from docket.sync import Execution

_COLUMNS = ("When", "Function", "Key", "State", "Worker", "Started")


def snapshot(
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """Show everything that waits, runs or was set aside."""
    with opened(docket, url) as it:
        taken = it.snapshot()
    counts = _counts(taken)
    if as_json:
        printing.print_json(_as_data(docket, taken, counts))
        return
    lines: list[Any] = [
        f"Docket '{printing.printable(docket)}' as of {taken.taken.astimezone():%Y-%m-%d %H:%M:%S}",
        ", ".join(f"{count} {name}" for name, count in counts.items()),
    ]
    if taken.running or taken.future:
        rows = [_row(execution, taken) for execution in (*taken.running, *taken.future)]
        lines.append(printing.table("", _COLUMNS, rows))
    if taken.dead:
        lines.append(dead.table("Dead letters", taken.dead, taken.taken))
    printing.show(*lines)


def _counts(taken: DocketSnapshot[Execution]) -> dict[str, int]:
    scheduled = sum(
        execution.state is ExecutionState.SCHEDULED and execution.when > taken.taken
        for execution in taken.future
    )
    return {
        "due": len(taken.future) - scheduled,
        "scheduled": scheduled,
        "running": len(taken.running),
        "dead": len(taken.dead),
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


def _as_data(name: str, taken: DocketSnapshot[Execution], counts: dict[str, int]) -> dict[str, Any]:
    return {
        "docket": name,
        "taken": printing.iso(taken.taken),
        "counts": counts,
        "running": [_execution_as_data(execution) for execution in taken.running],
        "future": [_execution_as_data(execution) for execution in taken.future],
        "dead": [_execution_as_data(execution) for execution in taken.dead],
        "workers": [worker.name for worker in taken.workers],
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
