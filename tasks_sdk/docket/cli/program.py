"""Which commands `docket` has."""

from __future__ import annotations

import typer

from docket.cli import (
    cancel,
    clear,
    dead,
    limits,
    runs,
    session,
    snapshot,
    strikes,
    tasks,
    version,
    watch,
    why,
    worker,
    workers,
)

HELP = f"""Run Python functions in the background, now or later, over Redis.

{session.EXIT_CODES_OF_ONE} (worker and watch have more)
"""

app = typer.Typer(
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
    # A traceback with local variables would print what no log should hold: passwords, arguments of tasks.
    pretty_exceptions_show_locals=False,
)


@app.callback(help=HELP)
def _program() -> None: ...  # pyright: ignore[reportUnusedFunction]


app.command("worker", epilog=worker.EPILOG)(worker.worker)
app.command("snapshot", epilog=snapshot.EPILOG)(snapshot.snapshot)
app.command("watch", epilog=watch.EPILOG)(watch.watch)
app.command("cancel", epilog=cancel.EPILOG)(cancel.cancel)
app.command("clear", epilog=clear.EPILOG)(clear.clear)
app.command("strike", epilog=strikes.EPILOG)(strikes.strike)
app.command("restore", epilog=strikes.EPILOG)(strikes.restore)
app.command("strikes", epilog=session.EXIT_CODES)(strikes.strikes)
app.command("why", epilog=why.EPILOG)(why.why)
app.add_typer(limits.app, name="limits")
app.add_typer(runs.app, name="runs")
app.add_typer(workers.app, name="workers")
app.add_typer(dead.app, name="dead")
app.add_typer(tasks.app, name="tasks")
app.command("version")(version.version)
