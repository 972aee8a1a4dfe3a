"""The picture is well-formed, whatever the keys are called, and shows each run and each incident."""

from __future__ import annotations

from xml.etree import ElementTree

from chaos.gantt import draw, page
from chaos.incidents import ALL, Incident
from chaos.witness import INTERRUPTED, RAISED, RETURNED, Run

RUNS = [
    Run("a<&>", "task", 1, 1, 1.0, RETURNED, 2.0),
    Run("b", "task", 1, 1, 1.5, "", 0.0),
    Run("c", "task", 2, 1, 1.6, RAISED, 1.7),
    Run("d", "task", 2, 1, 1.8, INTERRUPTED, 1.9),
    Run("b", "task", 2, 1, 2.5, RETURNED, 3.0),
]
INCIDENTS = [
    Incident("kill", 1, 2.2),
    Incident("freeze", 2, 1.9, 2.4),
    Incident("pause of Redis", ALL, 2.0, 2.4),
    Incident("grow", ALL, 2.1, note="SIGTTIN"),
]


def hints(svg: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}title")]


def test_each_run_and_each_incident_has_its_mark() -> None:
    told = hints(draw(RUNS, INCIDENTS, "a & b"))
    for run in RUNS:
        assert any(hint.startswith(f"{run.key} attempt") for hint in told)
    for incident in INCIDENTS:
        assert any(hint.startswith(incident.what) for hint in told)
    assert any("no end seen" in hint for hint in told)


def test_what_is_run_again_is_outlined() -> None:
    svg = draw(RUNS, INCIDENTS, "")
    assert svg.count('stroke="#2b6cb0"') == 1


def test_a_page_holds_the_picture() -> None:
    svg = draw(RUNS, INCIDENTS, "storm")
    assert svg in page(svg, "storm")


def test_nothing_ran() -> None:
    assert "nothing ran" in draw([], INCIDENTS, "")
