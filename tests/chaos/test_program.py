"""The command line of the drills: usage errors are 2, and a drill that could not take place is no evidence."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from chaos.__main__ import app
from chaos.drills import DRILLS


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Missing argument 'DRILL'"),
        (("nothing",), "'nothing' is not one of"),
        (("storm", "--duration", "soon"), "expected a duration such as 30s"),
        (("storm", "--processes", "0"), "--processes"),
        (("restart-redis", "--url", "redis://127.0.0.1:1"), "leave --url out"),
        (("cut", "--url", "rediss://127.0.0.1:1"), "expected --url to be redis:// or unix://"),
        (("storm", "--gantt", "picture.png"), "ends in .svg or .html"),
    ],
)
def test_what_cannot_be_drilled_is_refused(arguments: tuple[str, ...], sentence: str) -> None:
    told = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    assert told.exit_code == 2 and sentence in " ".join(told.output.split())


def test_every_drill_is_explained() -> None:
    told = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "300"})
    assert told.exit_code == 0
    for drill in DRILLS.values():
        assert f"{drill.name}: {drill.summary}" in " ".join(told.output.split())


def test_a_redis_that_is_not_there_is_no_evidence(tmp_path: Path) -> None:
    told = CliRunner().invoke(
        app, ["garbage", "--url", f"unix://{tmp_path}/none.sock", "--folder", str(tmp_path)]
    )
    assert told.exit_code == 1 and "cannot reach Redis" in told.output
