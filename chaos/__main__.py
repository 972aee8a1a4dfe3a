"""`python -m chaos DRILL`: a service is broken on purpose, and evidence is demanded that nothing was lost."""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from chaos import gantt, report
from chaos.drills import DRILLS
from chaos.experiment import Evidence, can_be_had, carry_out
from chaos.service import Broken
from docket.durations import describe, parse
from docket.errors import DocketError

Name = StrEnum("Name", {name: name for name in DRILLS})

_LIST = "\n\n".join(f"{drill.name}: {drill.summary}" for drill in DRILLS.values())
HELP = f"""Break a service on purpose, and demand evidence that nothing was lost.

A supervisor with worker processes is given work all the time while the drill does its deeds, by a schedule that the
seed decides. Tasks write their start and end into a ledger outside Redis. At the end every execution must have run,
whatever ran twice must have a cause that can be named, limits must have been kept, and nothing may be left in Redis.

Exit codes: 0 the evidence holds, 1 it does not, 2 usage.

Drills:

{_LIST}
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _read(parser: Callable[[str], Any], flag: str) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return parser(text)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint=f"'{flag}'") from None

    return read


Drill = Annotated[
    Name,
    typer.Argument(help="What is broken.", metavar="DRILL", show_choices=False),
]
Seed = Annotated[int | None, typer.Option(help="What is done when; the same seed, the same schedule.")]
Duration = Annotated[
    timedelta | None,
    typer.Option(
        parser=_read(parse, "--duration"),
        metavar="DURATION",
        help="How long things are broken: 30s, 10m. [default: 60s for storm, else 20s]",
    ),
]
Processes = Annotated[int, typer.Option(min=1, help="Worker processes.")]
Url = Annotated[
    str | None,
    typer.Option(
        envvar="DOCKET_CHAOS_URL",
        help="A Redis to try it on, redis:// or unix://; its docket `chaos` is cleared. Pausing and filling it "
        "concerns all that use it. [default: one is started for the drill]",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
ReportFile = Annotated[
    Path | None, typer.Option("--report", help="Write the report as JSON into this file.", metavar="FILE")
]
Picture = Annotated[
    Path | None,
    typer.Option("--gantt", help="Draw places over time into this .svg or .html file.", metavar="FILE"),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        help="Where logs, ledger, report and picture are kept. [default: a temporary one, kept only if something "
        "is wrong]",
        metavar="FOLDER",
    ),
]
Timed = Annotated[
    bool,
    typer.Option("--timed/--not-timed", help="How soon all goes on after a kill is part of the verdict."),
]


@app.command(help=HELP)
def main(
    drill: Drill,  # pyright: ignore[reportInvalidTypeForm]
    seed: Seed = None,
    duration: Duration = None,
    processes: Processes = 4,
    url: Url = None,
    as_json: AsJson = False,
    report_file: ReportFile = None,
    picture: Picture = None,
    folder: Folder = None,
    timed: Timed = True,
) -> None:
    chosen = DRILLS[drill.value]
    if picture is not None and picture.suffix not in (".svg", ".html"):
        raise typer.BadParameter(
            f"expected a name that ends in .svg or .html, got {picture}", param_hint="'--gantt'"
        )
    if url is not None and (why := can_be_had(chosen, url)):
        raise typer.BadParameter(why, param_hint="'--url'")
    length = timedelta(seconds=chosen.seconds) if duration is None else duration
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    console = Console(stderr=as_json) if sys.stdout.isatty() else Console(stderr=as_json, width=120)
    place = folder or Path(tempfile.mkdtemp(prefix="docket-chaos-"))
    place.mkdir(parents=True, exist_ok=True)
    console.print(f"{chosen.name} for {describe(length)}, seed {seed}, evidence in {place}", highlight=False)
    try:
        with console.status("starting") as status:
            evidence = carry_out(
                chosen,
                url=url,
                folder=place,
                seed=seed,
                seconds=length.total_seconds(),
                processes=processes,
                timed=timed,
                tell=status.update,
            )
    except (Broken, DocketError) as error:
        console.print(f"[red]broken:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    _keep(evidence, place, report_file, picture)
    report.show(console, evidence)
    if as_json:
        print(json.dumps(evidence.as_json(), indent=2))
    if evidence.verdict.clean and folder is None:
        shutil.rmtree(place, ignore_errors=True)
    raise typer.Exit(0 if evidence.verdict.clean else 1)


def _keep(evidence: Evidence, folder: Path, report_file: Path | None, picture: Path | None) -> None:
    title = f"{evidence.drill.name}, seed {evidence.seed}"
    svg = gantt.draw(evidence.runs, evidence.incidents, title)
    for path in filter(None, (folder / "gantt.html", picture)):
        path.write_text(gantt.page(svg, title) if path.suffix == ".html" else svg)
    for path in filter(None, (folder / "report.json", report_file)):
        path.write_text(json.dumps(evidence.as_json(), indent=2))


if __name__ == "__main__":
    app(prog_name="python -m chaos")
