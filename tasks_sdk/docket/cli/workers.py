"""`docket workers …`: who is alive, and what it can run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from docket import clock
from docket.cli import options, printing
from docket.cli.completion import of_tasks
from docket.cli.session import EXIT_CODES, USAGE, leave, opened, remark_if_unused
from docket.snapshot import WorkerInfo

app = typer.Typer(
    help="List the workers that are alive.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


@app.callback(epilog=EXIT_CODES)
def workers(
    context: typer.Context,
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """List the workers that are alive. Options of a command stand behind its name."""
    if context.invoked_subcommand is None:
        ls(docket, url, as_json)
        return
    for name, option in (("docket", "--docket"), ("url", "--url"), ("as_json", "--json")):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            # Taking it for the command's own would be a guess; dropping it would ask the wrong Redis.
            leave(f"expected {option} behind {context.invoked_subcommand}, not before it", USAGE)


@app.command("ls", epilog=EXIT_CODES)
def ls(
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """List all of them."""
    with opened(docket, url) as it:
        alive = it.workers()
        if not alive:
            remark_if_unused(it)
    _show(alive, f"Workers of docket '{docket}'", as_json)


@app.command("for-task", epilog=EXIT_CODES)
def for_task(
    task: Annotated[str, typer.Argument(help="Name of the task.", metavar="TASK", autocompletion=of_tasks)],
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """List those that can run a task."""
    with opened(docket, url) as it:
        able = it.task_workers(task)
        if not able:
            remark_if_unused(it)
    _show(able, f"Workers of docket '{docket}' that can run {task}", as_json)


def _show(workers: Sequence[WorkerInfo], title: str, as_json: bool) -> None:
    now = clock.now()
    split = any(worker.partitions for worker in workers)
    printing.listing(
        title,
        sorted(workers, key=lambda worker: (worker.name, worker.worker_id)),
        as_json,
        columns=("Name", "Last Seen", "Slots", *(("Partitions",) if split else ()), "Tasks"),
        row=lambda worker: (
            worker.name,
            printing.clock_time(worker.last_seen, now),
            str(worker.concurrency),
            *((", ".join(map(str, sorted(worker.partitions))),) if split else ()),
            ", ".join(sorted(worker.tasks)),
        ),
        data=_as_data,
    )


def _as_data(worker: WorkerInfo) -> dict[str, Any]:
    return {
        "name": worker.name,
        "worker_id": worker.worker_id,
        "host": worker.host,
        "process": worker.process,
        "concurrency": worker.concurrency,
        "last_seen": printing.iso(worker.last_seen),
        "tasks": sorted(worker.tasks),
        **({"partitions": sorted(worker.partitions)} if worker.partitions else {}),
    }
