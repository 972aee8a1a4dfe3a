"""A template in the place of one that died: how long it may import. Pids are numbers, and `now` passes as a test says,
but for the last one, whose processes are real."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from docket import clock
from docket_supervisor.board import Board
from docket_supervisor.channel import Channel, Notices
from docket_supervisor.child import Inheritance
from docket_supervisor.deaths import Death
from docket_supervisor.hiring import TEMPLATE_PAUSE, Generations, TemplateHiring
from docket_supervisor.lifeline import Lifeline
from docket_supervisor.messages import ForkWorker, Imported, Message
from docket_supervisor.settings import SupervisorSettings
from docket_supervisor.spool import Spool
from tests.supervisor.service import Service, eventually

Start = Callable[..., Service]
MINUTE = 60.0
"""The boot timeout."""


class Scene:
    """The template dies when it is killed, once the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.now = 1000.0
        self.template = 0
        self.killed: list[int] = []
        self.hired: list[tuple[int, int]] = []
        self._pids = count(99_000_000)
        self._theirs: list[Channel] = []
        monkeypatch.setattr(clock, "monotonic", lambda: self.now)
        monkeypatch.setattr("docket_supervisor.channel.fork", self._fork)
        monkeypatch.setattr("docket_supervisor.hiring.os.kill", lambda pid, number: self.killed.append(pid))
        options = SupervisorSettings(processes=2, boot_timeout=timedelta(seconds=MINUTE), **settings)
        board, spool = Board(options.seats, 10), Spool(options.seats)
        self.hiring = TemplateHiring(
            Inheritance(options, board, Lifeline(), Notices(), spool),
            lambda: (),
            lambda seat, pid: self.hired.append((seat, pid)),
            self._watch,
            lambda failure: None,
            Generations(),
        )

    def _fork(self, main: Callable[[], int], closing: object) -> int:
        self.template = next(self._pids)
        return self.template

    def _watch(self, channel: Channel, told: Callable[[Message], None]) -> None:
        self.tell = told

    def up(self) -> Scene:
        """It has imported, as at the start of the service."""
        self.hiring.start()
        self.tell(Imported(1))
        return self

    def dies(self, signaled: int = signal.SIGKILL) -> None:
        assert self.hiring.died(Death(self.template, signaled))
        self.turns()

    def turns(self) -> None:
        self.hiring.turn(self.now)

    def passes(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.now += 1.0
            self.turns()


def test_one_that_does_not_import_within_the_boot_timeout_is_killed_and_another_one_tries(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(monkeypatch).up()
    scene.dies()
    hangs = scene.template
    scene.hiring.hire(0, slot=0, quarantine=False)
    scene.passes(MINUTE)
    assert scene.killed == []
    scene.passes(1)
    assert scene.killed == [hangs]
    assert f"template {hangs} did not finish importing within 1m; killing it" in caplog.text
    scene.dies()
    assert scene.hiring.failure and scene.template == hangs
    scene.passes(TEMPLATE_PAUSE)
    assert scene.template != hangs and scene.hired == []
    asked: list[Message] = []
    monkeypatch.setattr(Channel, "send", lambda channel, message: asked.append(message))
    scene.tell(Imported(1))
    assert asked == [ForkWorker(0, 0, False)], "what waited all the while"


def test_each_that_hangs_is_given_up_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch).up()
    scene.dies()
    for tried in range(1, 4):
        scene.passes(MINUTE + 1)
        assert scene.killed[-1] == scene.template and len(scene.killed) == tried
        scene.dies()
        scene.passes(TEMPLATE_PAUSE)


def test_one_that_imports_in_time_and_is_then_asked_for_nothing_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(monkeypatch).up()
    scene.dies()
    scene.passes(MINUTE)
    scene.tell(Imported(1))
    scene.passes(10 * MINUTE)
    assert scene.killed == []


def test_the_first_one_is_left_to_whoever_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start of the service, which has an exit code for that and waits as long as Redis is away, or a roll."""
    scene = Scene(monkeypatch)
    scene.hiring.start()
    scene.passes(10 * MINUTE)
    scene.dies()
    scene.passes(10 * MINUTE)
    assert scene.killed == []


def test_who_develops_may_take_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, watch=True).up()
    scene.dies()
    scene.passes(10 * MINUTE)
    assert scene.killed == []


def test_one_that_follows_the_template_of_a_former_program_has_the_limit_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(monkeypatch)
    scene.template = 98_999_999
    ours, theirs = Channel.pair()
    scene.hiring.adopt((scene.template, os.dup(ours.fileno())))
    ours.close()
    scene.passes(10 * MINUTE)
    assert scene.killed == []
    scene.dies()
    scene.passes(MINUTE + 1)
    assert scene.killed == [scene.template]
    theirs.close()


def test_time_in_which_we_were_stopped_ourselves_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch).up()
    scene.dies()
    scene.passes(10)
    scene.now += 3600
    scene.turns()
    scene.passes(MINUTE)
    assert scene.killed == []
    scene.passes(1)
    assert scene.killed == [scene.template]


def test_one_that_was_dismissed_is_not_judged_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch).up()
    scene.dies()
    scene.hiring.dismiss()
    assert scene.killed == [scene.template]
    scene.passes(10 * MINUTE)
    assert scene.killed == [scene.template]


def test_a_slot_is_filled_again_when_an_import_that_hung_has_been_given_up(
    start: Start, tmp_path: Path
) -> None:
    """The database that it asks is away for a while, say."""
    away = tmp_path / "away"
    (tmp_path / "app_tasks.py").write_text(
        f"import pathlib, time\nif pathlib.Path({str(away)!r}).exists():\n    time.sleep(600)\ntasks = [print]\n"
    )
    service = start(processes=2, boot_timeout=5)
    first, _ = service.ready(2)
    (template,) = [child for child in service.children() if "template" in " ".join(child.cmdline())]
    away.touch()
    template.kill()
    service.logged(f"template {template.pid} killed by SIGKILL")
    os.kill(first, signal.SIGKILL)
    service.logged("did not finish importing within 5s; killing it")
    assert len(service.events("ready")) == 2
    away.unlink()
    service.ready(3)
    eventually(lambda: "imported the tasks" in service.log().rpartition("killing it")[2])
    service.signal(signal.SIGTERM)
    assert service.ends() == 0
