"""A rolling restart, read from the table: no process is forked here."""

from __future__ import annotations

import pytest

from docket_supervisor.rolls import TABLE, Happening, Move, Stage, Step, after

TRIAL = [Happening.ASKED, Happening.IMPORTED, Happening.READY, Happening.PASSED]


def live(*happenings: Happening) -> tuple[Stage, list[Step]]:
    """What becomes of a roll that sees these happenings."""
    stage, done = Stage.IDLE, list[Step]()
    for happening in happenings:
        move = after(stage, happening)
        stage = move.stage
        done += move.steps
    return stage, done


def test_a_roll_imports_tries_adopts_and_only_then_lets_the_old_code_go() -> None:
    assert live(*TRIAL, Happening.COMPLETE) == (
        Stage.IDLE,
        [Step.IMPORT, Step.TRY, Step.WATCH, Step.ADOPT, Step.DISCARD, Step.SUCCEED],
    )


@pytest.mark.parametrize("passed", range(1, 4))
def test_whatever_fails_on_trial_leaves_the_old_code_in_service(passed: int) -> None:
    stage, done = live(*TRIAL[:passed], Happening.FAILED)
    assert stage is Stage.IDLE
    assert Step.ADOPT not in done and done[-2:] == [Step.DISCARD, Step.UNDONE]


def test_a_failure_after_the_trial_is_only_undone_when_it_is_hopeless() -> None:
    assert live(*TRIAL, Happening.FAILED)[0] is Stage.ROLLING
    stage, done = live(*TRIAL, Happening.HOPELESS, Happening.COMPLETE)
    assert stage is Stage.IDLE
    assert done[-3:] == [Step.RESTORE, Step.DISCARD, Step.UNDONE]


def test_undoing_is_never_given_up() -> None:
    assert live(*TRIAL, Happening.HOPELESS, Happening.HOPELESS, Happening.FAILED)[0] is Stage.UNDOING


@pytest.mark.parametrize("before", [TRIAL[:count] for count in range(1, 5)])
def test_a_service_that_leaves_forgets_the_roll_without_calling_it_a_failure(
    before: list[Happening],
) -> None:
    stage, done = live(*before, Happening.LEAVING)
    assert stage is Stage.IDLE
    assert done[-1] is Step.DISCARD and Step.UNDONE not in done and Step.SUCCEED not in done


def test_every_roll_that_ends_by_itself_says_how_and_lets_one_template_go() -> None:
    ends = [
        move
        for (_, happening), move in TABLE.items()
        if move.stage is Stage.IDLE and happening not in (Happening.LEAVING, Happening.SUPERSEDED)
    ]
    assert ends
    for move in ends:
        assert Step.DISCARD in move.steps
        assert (Step.SUCCEED in move.steps) is not (Step.UNDONE in move.steps)


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("happening", Happening)
def test_what_a_stage_does_not_know_changes_nothing(stage: Stage, happening: Happening) -> None:
    if (stage, happening) not in TABLE:
        assert after(stage, happening) == Move(stage)


@pytest.mark.parametrize("passed", range(1, 4))
def test_code_on_trial_is_forgotten_for_newer_code_and_nothing_has_failed(passed: int) -> None:
    stage, done = live(*TRIAL[:passed], Happening.SUPERSEDED, Happening.ASKED)
    assert stage is Stage.IMPORTING
    assert done[-2:] == [Step.DISCARD, Step.IMPORT] and Step.UNDONE not in done


def test_a_roll_that_has_passed_its_trial_is_not_superseded() -> None:
    assert live(*TRIAL, Happening.SUPERSEDED)[0] is Stage.ROLLING
