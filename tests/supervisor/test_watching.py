"""Changes of files: noticed by looking, and replaced workers when they are."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from docket_supervisor.watching import Watch, enumerated
from tests.supervisor.service import Service, eventually, gone
from tests.supervisor.test_rolling import generations

Start = Callable[..., Service]


class Looking:
    """A watch over a folder, called when it wants to be, on a clock of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.watch = Watch(str(folder))

    def changed(self) -> list[str]:
        """What is told within the next three looks."""
        for _ in range(3):
            if told := self.watch.turn(self.watch.next_look):
                return told
        return []


@pytest.fixture
def looking(tmp_path: Path) -> Looking:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "tasks.py").write_text("tasks = []\n")
    (tmp_path / "top.py").write_text("")
    return Looking(tmp_path)


def test_nothing_changed(looking: Looking) -> None:
    assert looking.changed() == []


def test_a_file_that_is_written_made_or_removed_is_a_change(looking: Looking) -> None:
    (looking.folder / "app" / "tasks.py").write_text("tasks = [print]\n")
    assert looking.changed() == ["app/tasks.py"]
    assert looking.changed() == []
    (looking.folder / "app" / "more.py").touch()
    assert looking.changed() == ["app/more.py"]
    (looking.folder / "top.py").unlink()
    assert looking.changed() == ["top.py"]


def test_a_file_of_the_same_size_that_takes_anothers_place_is_a_change(looking: Looking) -> None:
    path = looking.folder / "top.py"
    before = path.stat()
    (looking.folder / "new").write_text("")
    os.utime(looking.folder / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (looking.folder / "new").rename(path)
    assert looking.changed() == ["top.py"]


@pytest.mark.parametrize(
    "path", [".git/x.py", "__pycache__/x.py", "node_modules/x.py", "venv/lib/x.py", "data.json", "x.pyc"]
)
def test_what_is_no_source_of_the_application_is_not_watched(looking: Looking, path: str) -> None:
    (looking.folder / "venv").mkdir()
    (looking.folder / "venv" / "pyvenv.cfg").touch()
    (looking.folder / path).parent.mkdir(parents=True, exist_ok=True)
    (looking.folder / path).touch()
    assert looking.changed() == []


def test_a_change_is_told_when_no_further_one_follows(looking: Looking) -> None:
    watch = looking.watch
    for number in range(5):
        (looking.folder / f"new-{number}.py").touch()
        assert watch.turn(watch.next_look) == []
    assert watch.turn(watch.next_look) == [f"new-{number}.py" for number in range(5)]


def test_it_does_not_look_more_often_than_it_said(looking: Looking) -> None:
    (looking.folder / "top.py").write_text("changed")
    assert looking.watch.turn(looking.watch.next_look - 0.01) == []
    assert looking.changed() == ["top.py"]


def test_a_link_to_nowhere_and_a_circle_of_links_disturb_nobody(looking: Looking) -> None:
    (looking.folder / "nowhere.py").symlink_to("/no/such/file.py")
    (looking.folder / "app" / "circle").symlink_to(looking.folder)
    assert looking.changed() == []


def test_many_files_are_told_by_the_first_few() -> None:
    assert enumerated(["a"]) == "a"
    assert enumerated(["a", "b", "c"]) == "a, b, c"
    assert enumerated(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


@pytest.fixture
def usual() -> dict[str, Any]:
    return {"watch": True}


BROKEN = "raise RuntimeError('half-written')\n"


def left(service: Service) -> None:
    service.signal(signal.SIGTERM)
    assert service.ends() == 0


def in_service(service: Service, generation: int) -> None:
    service.logged(f"generation {generation} is in service")


def test_a_change_replaces_all_workers_at_once(start: Start, tmp_path: Path, preload: bool) -> None:
    service = start(processes=3, preload=preload)
    old = service.ready(3)
    (tmp_path / "app_tasks.py").write_text("tasks = [print, len]\n")
    service.logged("changed: app_tasks.py")
    in_service(service, 2)
    assert generations(service) == [2, 2, 2] and all(gone(pid) for pid in old)
    left(service)


def test_a_worker_that_is_busy_does_not_keep_the_others_from_being_replaced(
    start: Start, tmp_path: Path
) -> None:
    service = start(processes=3)
    busy, *others = service.ready(3)
    service.obeyed(busy, "begin key")
    (tmp_path / "app_tasks.py").write_text("tasks = [print, len]\n")
    eventually(lambda: all(gone(pid) for pid in others))
    eventually(lambda: generations(service) == [1, 2, 2, 2])
    service.obeyed(busy, "settle")
    in_service(service, 2)
    left(service)


def test_a_broken_change_is_told_once_and_the_next_one_heals_it(
    start: Start, tmp_path: Path, preload: bool
) -> None:
    service = start(processes=2, preload=preload)
    old = service.ready(2)
    # Without a template the spare imports for itself as well, and would say so.
    eventually(lambda: re.search(r"spare \d+ is ready", service.log()))
    (tmp_path / "app_tasks.py").write_text(BROKEN)
    service.logged("reload undone, generation 1 stays in service")
    assert service.log().count("RuntimeError: half-written") == 1
    assert not any(gone(pid) for pid in old)
    (tmp_path / "app_tasks.py").write_text("tasks = [print]\n")
    in_service(service, 2)
    assert generations(service) == [2, 2]
    left(service)


def test_a_service_that_cannot_import_at_its_start_waits_for_a_change(
    start: Start, tmp_path: Path, preload: bool
) -> None:
    (tmp_path / "app_tasks.py").write_text(BROKEN)
    service = start(processes=2, preload=preload, boot_timeout=4)
    service.logged("waiting for the next change")
    (tmp_path / "app_tasks.py").write_text("raise RuntimeError('still')\n")
    service.logged("RuntimeError: still")
    assert service.process.poll() is None
    assert service.log().count("Traceback") == 2
    (tmp_path / "app_tasks.py").write_text("tasks = [print]\n")
    in_service(service, 2)
    assert generations(service) == [2, 2]
    service.logged("all workers are ready: 2")
    assert sum("template" in title for title in service.titles()) == (1 if preload else 0)
    left(service)


def test_an_import_that_does_not_end_is_given_up_for_the_next_change(start: Start, tmp_path: Path) -> None:
    service = start(processes=1)
    service.ready(1)
    (tmp_path / "app_tasks.py").write_text("import time\ntime.sleep(600)\n")
    service.logged("reloading")
    (tmp_path / "app_tasks.py").write_text("tasks = [print]\n")
    in_service(service, 2)
    eventually(lambda: sum("template" in title for title in service.titles()) == 1)
    left(service)


def test_a_service_that_waits_for_a_change_leaves_when_it_is_told_to(
    start: Start, tmp_path: Path, preload: bool
) -> None:
    (tmp_path / "app_tasks.py").write_text(BROKEN)
    service = start(processes=2, preload=preload)
    service.logged("waiting for the next change")
    left(service)
