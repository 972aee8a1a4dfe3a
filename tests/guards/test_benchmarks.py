"""What `make bench` makes of its figures: ratios, goals, tables, the plot and the page. Nothing is measured here."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from tests.benchmarks import curves, page, plot, report, scale
from tests.benchmarks.__main__ import MEASURES
from tests.benchmarks.bench import QUICK, Bench
from tests.benchmarks.contestants import FLOOR, OURS, PROGRAMS, Broken, Contestant
from tests.benchmarks.floors import _rate  # pyright: ignore[reportPrivateUsage]
from tests.benchmarks.goals import GOALS, set_goals
from tests.benchmarks.peers import PEERS, Work
from tests.benchmarks.programs.marks import Marked
from tests.benchmarks.results import Row, Target

SVG = "{http://www.w3.org/2000/svg}"
SETTINGS = {"ours": {"packages": [], "settings": "as it comes"}}


def rated(**values: float) -> Row:
    row = Row("no-op async tasks, 1 process", "/s", more_is_better=True, key="drain.async.1")
    for name, value in values.items():
        row.add(name, value)
    return row


class Dry(Bench):
    """Measures nothing: the rows come back empty."""

    def repeat(self, *_: Any, **__: Any) -> None: ...


def dry_rows(tmp_path: Path) -> list[Row]:
    server: Any = SimpleNamespace(program="/nowhere/redis-server", path="/nowhere")
    bench = Dry(server, tmp_path, QUICK, OURS, FLOOR, None, PEERS)
    return [row for measure in MEASURES.values() for row in measure(bench)]


def test_the_best_peer_is_neither_ours_nor_the_floor():
    row = rated(ours=900, floor=1000, pydocket=20, taskiq=60, arq=30)
    assert (row.best, row.best_ratio, row.ratio, row.over("floor")) == ("taskiq", 15, 45, 0.9)
    row.more_is_better = False
    assert (row.best, row.best_ratio) == ("pydocket", 20 / 900)


def test_a_goal_is_met_only_if_all_its_parts_are():
    target = Target(times=10, best=6, floor=0.3)
    assert target.is_met(rated(ours=600, floor=2000, pydocket=60, taskiq=100))
    assert target.is_met(rated(ours=599, floor=1900, pydocket=50, taskiq=100)) is False
    assert target.is_met(rated(ours=600, floor=2001, pydocket=60, taskiq=100)) is False
    assert target.is_met(rated(ours=600, floor=2000, pydocket=61, taskiq=100)) is False
    assert Target(most=5).is_met(rated(ours=5)) and Target(most=5).is_met(rated(ours=6)) is False
    assert Target(least=5).is_met(rated(ours=5)) and Target(least=5).is_met(rated(ours=4)) is False


def test_a_goal_without_its_figures_is_neither_met_nor_missed_unless_a_part_is_missed():
    target = Target(times=10, best=6)
    assert target.is_met(rated(ours=600)) is None
    assert target.is_met(rated(pydocket=600)) is None
    assert Target(most=5, times=2).is_met(rated(ours=6)) is False


def test_every_goal_and_every_panel_of_the_plot_belongs_to_a_measure(tmp_path):
    keys = {row.key for row in dry_rows(tmp_path)}
    assert set(GOALS) - keys == set()
    assert set(plot.PANELS) - keys == set()


def test_a_broken_peer_is_broken_in_its_rows_and_stops_nobody(tmp_path):
    bench = Bench(SimpleNamespace(), tmp_path, QUICK, OURS, FLOOR, None)  # type: ignore[arg-type]
    losing, lacking = Contestant("losing"), Contestant("lacking", cannot={"async": "has no loop"})
    row, other = rated(), Row("other", "")
    measured: list[str] = []

    def once(contestant: Contestant) -> None:
        measured.append(contestant.name)
        row.add(contestant.name, 1000 - len(measured))
        if contestant is losing and len(measured) > 2:
            raise Broken("losing: 3 tasks were lost, 0 ran more than once")

    bench.repeat([losing, lacking, OURS], [row, other], once, needs=["async"], repetitions=3)
    assert measured == ["losing", "ours", "losing", "ours", "ours"]
    assert row.values == {"ours": [998, 996, 995]}
    assert row.faults == other.faults == {"losing": "losing: 3 tasks were lost, 0 ran more than once"}
    assert row.absent == other.absent == {"lacking": "has no loop"}
    assert report.cell(row, "losing") == "broken" and report.cell(row, "lacking") == "–"
    assert report.remarks([row, other]) == [
        "lacking, –: has no loop",
        "losing, broken (no-op async tasks, 1 process and 1 more): 3 tasks were lost, 0 ran more than once",
    ]


def test_the_tables_fit_120_columns_with_everybody_in_them(tmp_path, capsys):
    rows = dry_rows(tmp_path)
    for row in rows:
        for number, name in enumerate(["ours", "pydocket", *(peer.name for peer in PEERS), "floor"]):
            row.add(name, 123_456.0 + number)
    set_goals(rows)
    report.show(Console(width=120, force_terminal=False), rows, {"cores": "2"})
    shown = capsys.readouterr().out
    assert "…" not in shown and max(map(len, shown.splitlines())) <= 120
    assert shown.count("✓") + shown.count("✗") == sum(1 for row in rows if row.target)


def test_results_are_read_back_as_they_were_saved(tmp_path):
    row = rated(ours=30, pydocket=2, taskiq=4, floor=50)
    row.fail("rq", "it fell over")
    row.absent["huey"] = "cannot"
    row.remark = "on a hot day"
    set_goals([row])
    report.save(tmp_path / "deep" / "results.json", [row], {"cores": "2"}, SETTINGS)
    assert report.load(tmp_path / "deep" / "results.json") == ([row], {"cores": "2"}, SETTINGS)


def test_the_plot_has_a_bar_for_each_figure_and_a_word_for_what_has_none():
    row = rated(ours=30_000, pydocket=2_400, taskiq=4_000, floor=80_000)
    row.fail("rq", "it fell over")
    unknown = Row("nobody draws this", "", key="nobody.draws.this", values={"ours": [1.0]})
    root = ElementTree.fromstring(plot.drawn([row, unknown]))
    widths = {bar.get("class"): float(bar.get("width", 0)) for bar in root.iter(f"{SVG}rect")}
    assert len(list(root.iter(f"{SVG}rect"))) == 4
    assert widths["floor"] > widths["ours"] > widths["peer"] > widths["pydocket"] > 0
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts[:3] == ["no-op async tasks, 1 process", "/s, more is better, logarithmic", "floor"]
    assert texts[-2:] == ["rq", "broken"] and "30,000" in texts
    box = [float(part) for part in root.get("viewBox", "").split()]
    assert all(float(text.get("y", 0)) < box[3] for text in root.iter(f"{SVG}text"))


def test_figures_that_lie_close_together_are_drawn_from_nothing():
    root = ElementTree.fromstring(plot.drawn([rated(ours=300, pydocket=100)]))
    ours, pydocket = (float(bar.get("width", 0)) for bar in root.iter(f"{SVG}rect"))
    assert ours == pytest.approx(3 * pydocket, rel=0.01)


def test_the_page_is_written_between_its_markers(tmp_path):
    path = tmp_path / "performance.md"
    path.write_text(f"before\n{page.BEGIN}\nold figures\n{page.END}\nafter\n")
    row = rated(ours=30, pydocket=2, taskiq=40)
    set_goals([row])
    for _ in range(2):
        page.document(path, [row], {"cores": "2"}, SETTINGS)
    text = path.read_text()
    assert text.startswith(f"before\n{page.BEGIN}\n") and text.endswith(f"{page.END}\nafter\n")
    assert "old figures" not in text and text.count("### Everybody") == 1
    assert "| no-op async tasks, 1 process, /s | 30.0 | 40.0 taskiq | 2.00 | – | 15.0 × | 0.8 × |" in text
    assert "0 of 1 goals are met." in text
    assert "ahead of us:\n\n- no-op async tasks, 1 process: taskiq 40.0 /s, ours 30.0" in text
    assert "Preliminary" not in text
    page.document(path, [row], {"load before": "2.5/1.0/1.0", "run": "quick"}, SETTINGS)
    warning = "**Preliminary**: others were at work on the machine (load 2.5 before the run), and it was a quick run"
    assert warning in path.read_text()


def test_the_rate_counts_from_when_all_processes_have_begun_if_that_is_most_of_the_work():
    alone = [float(second) for second in range(1, 11)]
    both = [10 + 0.5 * number for number in range(1, 31)]
    assert Marked([1] * 40, alone + both, [1.0, both[0]]).rate == pytest.approx(2)
    assert Marked([1] * 40, both[::-1] + alone, [both[0], 1.0]).rate == pytest.approx(2)
    assert Marked([1] * 40, alone + both, [1.0, both[28]]).rate == pytest.approx(39 / (both[29] - 1))
    assert Marked([1, 1, 0], [1.0, 3.0, 0.0], [1.0]).rate == pytest.approx(0.5)


@pytest.mark.parametrize("text", ["", page.BEGIN, page.END + page.BEGIN, page.BEGIN + page.END + page.END])
def test_a_page_without_its_markers_is_left_alone(tmp_path, text):
    path = tmp_path / "performance.md"
    path.write_text(text)
    with pytest.raises(ValueError, match="must hold"):
        page.document(path, [rated(ours=1)], {}, SETTINGS)
    assert path.read_text() == text


def test_every_peer_is_pinned_has_a_program_and_says_what_makes_it_fast():
    for peer in PEERS:
        assert peer.packages and all(name.count("==") == 1 for name in peer.packages), peer.name
        assert peer.settings and (PROGRAMS / f"{peer.name}_peer.py").is_file(), peer.name
        assert peer.suited(Work("rest", 2, 100)).concurrency == 100, peer.name
        for task in ("nothing", "nothing_sync", "rest", "compute", "due"):
            assert peer.commands(Work(task, 2, 100)), (peer.name, task)


@pytest.mark.parametrize(
    "csv",
    ['"XADD bench * body x","362318.84"\n', '"test","rps","avg"\n"PING","362318.84","0.1"\n'],
    ids=["Redis 6", "Redis 7"],
)
def test_the_figure_of_redis_benchmark_is_found(csv):
    assert _rate(csv) == 362318.84


def test_a_curve_has_a_point_for_each_size_and_its_table_a_column():
    found = {
        size: dict.fromkeys(figures_drawn(), float(number)) for number, size in enumerate(scale.SIZES, 1)
    }
    drawing = ElementTree.fromstring(curves.drawn(scale.PANELS, found))
    lines = list(drawing.iter(f"{SVG}polyline"))
    assert len(lines) == len(figures_drawn())
    assert {len((line.get("points") or "").split()) for line in lines} == {len(scale.SIZES)}
    head, _, *rows = curves.table(found, figures_drawn()).splitlines()
    assert head == "| beside a backlog of | 1,000 | 10,000 | 100,000 | 1,000,000 |"
    assert [row.split(" | ")[0].strip("| ") for row in rows] == figures_drawn()


def figures_drawn() -> list[str]:
    return [figure for lines in scale.PANELS.values() for figure in lines.values()]


def test_the_tables_of_scale_go_between_their_own_markers(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(f"before\n{scale.BEGIN}\nold\n{scale.END}\nafter {page.BEGIN}\nkept\n{page.END}\n")
    scale.document(path, "new")
    assert (
        path.read_text()
        == f"before\n{scale.BEGIN}\n\nnew\n{scale.END}\nafter {page.BEGIN}\nkept\n{page.END}\n"
    )
    path.write_text("nothing")
    with pytest.raises(SystemExit, match="must hold"):
        scale.document(path, "new")
