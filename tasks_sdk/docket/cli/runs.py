"""`docket runs …`: single executions, whatever became of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any

import typer

from docket import clock, inspection, payload
from docket.annotations import Logged, LoggedCalls
from docket.cli import options, printing
from docket.cli.session import EXIT_CODES_OF_ONE, IMPORT_FAILED, not_found, opened, registering
from docket.durations import describe
from docket.errors import CannotLoad, DeadLetter, ExecutionCancelled, ResultUnavailable
from docket.inspection import Inspection
from docket.sync import Docket, Execution

app = typer.Typer(help="Look at single executions.", no_args_is_help=True, rich_markup_mode=None)

Arguments = Annotated[
    bool,
    typer.Option(
        "--arguments",
        help="Unpickle the arguments and show those that are annotated as Logged. "
        "Unpickling runs code that whoever can write to this Redis has chosen.",
    ),
]
Result = Annotated[
    bool, typer.Option("--result", help="Unpickle and show what it returned or raised; the same warning.")
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--tasks",
        help="Where --arguments finds the annotations of the task; repeatable.",
        metavar="MODULE:COLLECTION",
    ),
]

_NOTHING_LOGGED = LoggedCalls((), None, {}, None)


@app.callback()
def _runs() -> None:  # pyright: ignore[reportUnusedFunction]
    """Look at single executions."""


@app.command("show", epilog=f"{EXIT_CODES_OF_ONE}\n{IMPORT_FAILED} --tasks failed to import")
def show(
    key: Annotated[str, typer.Argument(help="Key of the execution.", metavar="KEY")],
    arguments: Arguments = False,
    result: Result = False,
    tasks: Tasks = None,
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """Show everything about one execution: waiting, running or ended, as long as it is kept.

    Its arguments and its result are not opened unless asked for.
    """
    with opened(docket, url) as it:
        registering(it, tasks or ())
        found = it.store.perform(inspection.inspect(it.core.keys_of(key), key))
        if found is None:
            not_found(f"execution '{printing.printable(key)}'", it)
        execution = it.core.execution_of(found.record)
        data = _as_data(found, execution)
        if arguments:
            data["arguments"]["call"] = _call(it, execution)
        if result:
            data["result"] = {**(data["result"] or {}), **_result(execution)}
    printing.details(data, as_json, _for_people(found, data))


def _as_data(found: Inspection, execution: Execution) -> dict[str, Any]:
    record, duration = found.record, found.duration
    kept = found.progress
    return {
        "key": record.key,
        "function": record.function,
        "state": record.state,
        "dead": record.dead,
        "held_by": found.held_by,
        "follows": found.follows,
        "when": printing.iso(record.when),
        "attempt": record.attempt,
        "generation": record.generation,
        "redelivered": record.redelivered,
        "crashes": record.crashes,
        "worker": execution.worker,
        "worker_id": record.worker_id,
        "started_at": printing.iso(record.started_at),
        "completed_at": printing.iso(record.completed_at),
        "duration_s": None if duration is None else duration.total_seconds(),
        "error": record.error,
        "progress": None
        if kept.updated_at is None
        else {
            "current": kept.current,
            "total": kept.total,
            "message": kept.message,
            "updated_at": printing.iso(kept.updated_at),
        },
        "trace": found.trace,
        "arguments": {"bytes": found.arguments_size},
        "result": None if record.result is None else {"kind": record.result, "bytes": found.result_size},
        "execution_ttl_s": record.ttl_ms / 1000,
        "expires_at": printing.iso(found.expires_at),
    }


def _for_people(found: Inspection, data: dict[str, Any]) -> dict[str, str]:
    """The same, where people want other words; what says nothing is left out."""
    record, now, duration = found.record, clock.now(), found.duration
    kept, result = found.progress, data["result"]
    reported = " ".join(filter(None, (f"{kept.current}/{kept.total}", kept.message)))
    return {
        "Key": record.key,
        "Function": record.function,
        "State": ", ".join(_states(found)),
        "Due": printing.clock_time(record.when, now),
        "Attempt": str(record.attempt),
        "Generation": str(record.generation),
        "Redelivered": f"{record.redelivered} times" if record.redelivered else "",
        "Crashes": str(record.crashes or ""),
        "Worker": data["worker"] or "",
        "Started": printing.clock_time(record.started_at, now),
        "Ended": printing.clock_time(record.completed_at, now),
        "Duration": "" if duration is None else describe(duration),
        "Error": record.error or "",
        "Progress": "" if kept.updated_at is None else reported,
        "Trace": found.trace.get("traceparent", ""),
        "Arguments": data["arguments"].get("call") or f"{found.arguments_size} bytes, not opened",
        "Result": "" if result is None else _result_for_people(result),
        "Kept until": printing.clock_time(found.expires_at, now),
    }


def _states(found: Inspection) -> Iterator[str]:
    yield found.record.state
    if found.record.dead:
        yield "set aside as a dead letter"
    if found.held_by:
        yield f"held by the strike {found.held_by}"
    if found.follows:
        yield "an earlier run of this key has not ended yet"


def _result_for_people(result: dict[str, Any]) -> str:
    for name in ("value", "raised", "unavailable"):
        if name in result:
            return f"{result[name]}" if name == "value" else f"{name}: {result[name]}"
    size = "not in this Redis" if result["bytes"] is None else f"{result['bytes']} bytes, not opened"
    return f"{result['kind']}, {size}"


def _call(docket: Docket, execution: Execution) -> str:
    try:
        args, kwargs = execution.args, execution.kwargs
    except CannotLoad as error:
        return f"(they {error})"
    task = docket.core.registry.get(execution.function_name)
    logged = _NOTHING_LOGGED if task is None else task.logged
    return logged.show(execution.function_name, execution.key, args, kwargs)


def _result(execution: Execution) -> dict[str, str]:
    if execution.completed_at is None:
        return {"unavailable": f"it is {execution.state}"}
    try:
        return {"value": Logged().show(execution.get_result(timeout=timedelta(0)))}
    except (DeadLetter, ExecutionCancelled, ResultUnavailable, CannotLoad) as error:
        return {"unavailable": str(error)}
    except (Exception, SystemExit) as error:  # whatever the task raised
        return {"raised": payload.describe(error)}
