"""The life of the service, read from the table: no process is forked here."""

from __future__ import annotations

import itertools

import pytest

from docket_supervisor.codes import ExitCode
from docket_supervisor.phases import TABLE, Action, Event, Phase, Transition, after, knows

ALIVE = {Phase.STARTING, Phase.STARTING_QUIET, Phase.RUNNING, Phase.QUIET}
END = {Phase.CLOSING, Phase.GONE}


def live(*events: Event) -> tuple[Phase, list[Action], ExitCode | None]:
    """What becomes of a service that sees these events."""
    phase, done, code = Phase.STARTING, list[Action](), None
    for event in events:
        transition = after(phase, event)
        phase = transition.phase
        done += transition.actions
        code = transition.code if code is None else code
    return phase, done, code


def test_the_first_ready_worker_is_announced_once() -> None:
    assert live(Event.READY, Event.READY, Event.READY) == (Phase.RUNNING, [Action.ANNOUNCE], None)


@pytest.mark.parametrize("signal", [Event.TERM, Event.INT])
@pytest.mark.parametrize("before", [(), (Event.READY,)])
def test_one_signal_drains_and_leaves_cleanly(signal: Event, before: tuple[Event, ...]) -> None:
    phase, done, code = live(*before, signal, Event.EMPTY, Event.CLOSED)
    assert phase is Phase.GONE
    assert [action for action in done if action is not Action.ANNOUNCE] == [Action.DRAIN, Action.CLOSE]
    assert code is None


@pytest.mark.parametrize("signals", list(itertools.product([Event.TERM, Event.INT], repeat=2)))
def test_two_signals_shorten_the_drain(signals: tuple[Event, Event]) -> None:
    assert live(Event.READY, *signals, Event.EMPTY) == (
        Phase.CLOSING,
        [Action.ANNOUNCE, Action.DRAIN, Action.HURRY, Action.CLOSE],
        None,
    )


@pytest.mark.parametrize(
    ("third", "code"),
    [(Event.TERM, ExitCode.STOPPED_BY_TERM), (Event.INT, ExitCode.STOPPED_BY_INT)],
)
def test_the_third_signal_stops_at_once_and_names_the_exit_code(third: Event, code: ExitCode) -> None:
    phase, done, decided = live(Event.READY, Event.TERM, Event.INT, third, Event.DEADLINE, Event.EMPTY)
    assert (phase, decided) == (Phase.CLOSING, code)
    assert done[-3:] == [Action.STOP, Action.KILL, Action.CLOSE]


@pytest.mark.parametrize("signals", [(Event.TERM,), (Event.TERM, Event.TERM)])
def test_a_deadline_that_passes_kills_and_tells_so(signals: tuple[Event, ...]) -> None:
    phase, done, code = live(Event.READY, *signals, Event.DEADLINE, Event.EMPTY, Event.CLOSED)
    assert (phase, code) == (Phase.GONE, ExitCode.HANDED_BACK)
    assert done[-2:] == [Action.KILL, Action.CLOSE]


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (Event.MISCONFIGURED, ExitCode.USAGE),
        (Event.UNFIT, ExitCode.USAGE),
        (Event.IMPORT_FAILED, ExitCode.IMPORT),
        (Event.BOOT_TIMED_OUT, ExitCode.NOT_READY),
        (Event.GAVE_UP, ExitCode.GAVE_UP),
        (Event.NO_REDIS, ExitCode.NO_REDIS),
    ],
)
def test_a_start_that_fails_says_why_with_its_exit_code(event: Event, code: ExitCode) -> None:
    assert live(event, event, Event.EMPTY, Event.CLOSED) == (Phase.GONE, [Action.STOP, Action.CLOSE], code)


@pytest.mark.parametrize("event", [Event.UNFIT, Event.IMPORT_FAILED, Event.BOOT_TIMED_OUT, Event.NO_REDIS])
def test_a_service_that_has_been_of_use_goes_on(event: Event) -> None:
    assert live(Event.READY, event) == (Phase.RUNNING, [Action.ANNOUNCE], None)


def test_the_first_cause_decides_the_exit_code() -> None:
    assert (
        live(Event.IMPORT_FAILED, Event.TERM, Event.DEADLINE, Event.EMPTY, Event.CLOSED)[2] is ExitCode.IMPORT
    )


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("event", [each for each in Event if each is not Event.CONT])
def test_no_event_but_the_end_of_quiet_leads_back(phase: Phase, event: Event) -> None:
    order = list(Phase)
    assert order.index(after(phase, event).phase) >= order.index(phase)


@pytest.mark.parametrize("already", [(), (Event.TERM,), (Event.READY, Event.INT, Event.TERM)])
def test_quit_dumps_stacks_and_then_stops_at_once(already: tuple[Event, ...]) -> None:
    phase, done, code = live(*already, Event.QUIT, Event.TERM, Event.EMPTY, Event.CLOSED)
    assert (phase, code) == (Phase.GONE, ExitCode.STOPPED_BY_QUIT)
    assert done[-3:] == [Action.DUMP, Action.STOP, Action.CLOSE]


def test_quiet_is_entered_and_left() -> None:
    assert live(Event.READY, Event.TSTP) == (Phase.QUIET, [Action.ANNOUNCE, Action.QUIET], None)
    assert live(Event.READY, Event.TSTP, Event.CONT)[:2] == (
        Phase.RUNNING,
        [Action.ANNOUNCE, Action.QUIET, Action.RESUME],
    )


def test_quiet_that_comes_before_the_first_worker_holds_for_it() -> None:
    assert live(Event.TSTP, Event.READY) == (Phase.QUIET, [Action.QUIET, Action.ANNOUNCE], None)
    assert live(Event.TSTP, Event.CONT, Event.READY)[0] is Phase.RUNNING


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.RUNNING, Phase.QUIET, Phase.STARTING_QUIET])
def test_quiet_twice_and_its_end_without_it_change_nothing(phase: Phase) -> None:
    event = Event.TSTP if phase in (Phase.QUIET, Phase.STARTING_QUIET) else Event.CONT
    assert knows(phase, event) and after(phase, event) == Transition(phase)


@pytest.mark.parametrize("first", [(Event.READY, Event.TSTP), (Event.TSTP,)])
def test_a_quiet_service_drains_like_any_other(first: tuple[Event, ...]) -> None:
    phase, done, code = live(*first, Event.TERM, Event.EMPTY, Event.CLOSED)
    assert (phase, done[-2:], code) == (Phase.GONE, [Action.DRAIN, Action.CLOSE], None)


@pytest.mark.parametrize("event", [Event.TTIN, Event.TTOU, Event.SCALE, Event.TSTP, Event.CONT])
@pytest.mark.parametrize("phase", [Phase.DRAINING, Phase.HURRYING, Phase.STOPPING, Phase.KILLING])
def test_a_service_that_is_leaving_refuses_orders(event: Event, phase: Phase) -> None:
    assert not knows(phase, event)


@pytest.mark.parametrize(("event", "action"), [(Event.TTIN, Action.GROW), (Event.TTOU, Action.SHRINK)])
@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.RUNNING, Phase.QUIET])
def test_the_number_of_processes_can_be_changed_at_any_time(
    event: Event, action: Action, phase: Phase
) -> None:
    assert after(phase, event) == Transition(phase, (action,)) and knows(phase, Event.SCALE)


@pytest.mark.parametrize("phase", [each for each in Phase if each not in END])
def test_stacks_are_to_be_had_until_the_last_worker_has_left(phase: Phase) -> None:
    assert after(phase, Event.USR1) == Transition(phase, (Action.DUMP,))


def test_an_event_that_a_phase_does_not_know_changes_nothing() -> None:
    assert after(Phase.GONE, Event.TERM) == Transition(Phase.GONE)


@pytest.mark.parametrize("phase", [each for each in Phase if each not in END | ALIVE])
def test_every_phase_on_the_way_out_ends_when_no_worker_is_left(phase: Phase) -> None:
    assert TABLE[phase, Event.EMPTY] == Transition(Phase.CLOSING, (Action.CLOSE,))
