"""Which commands `docket` has."""

from __future__ import annotations

import typer

from docket.cli import cancel, clear, dead, snapshot, strikes, tasks, version, watch, worker, workers

app = typer.Typer(
    help="Run Python functions in the background, now or later, over Redis.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    # A traceback with local variables would print what no log should hold: passwords, arguments of tasks.
    pretty_exceptions_show_locals=False,
)


@app.callback()
def _program() -> None:  # pyright: ignore[reportUnusedFunction]
    """Run Python functions in the background, now or later, over Redis."""


app.command("worker", epilog=worker.EPILOG)(worker.worker)
app.command("snapshot")(snapshot.snapshot)
app.command("watch", epilog=watch.EPILOG)(watch.watch)
app.command("cancel")(cancel.cancel)
app.command("clear")(clear.clear)
app.command("strike", epilog=strikes.EPILOG)(strikes.strike)
app.command("restore", epilog=strikes.EPILOG)(strikes.restore)
app.command("strikes")(strikes.strikes)
app.add_typer(workers.app, name="workers")
app.add_typer(dead.app, name="dead")
app.add_typer(tasks.app, name="tasks")
app.command("version")(version.version)
