"""Settings are validated once, in sentences that name the option."""

from __future__ import annotations

from datetime import timedelta

import pytest

from docket.processors import processors
from docket_runtime.settings import WorkerSettings
from docket_supervisor.settings import SPARES, SupervisorSettings, in_options
from docket_supervisor.sizes import numbers


def refusal(**given: object) -> str:
    with pytest.raises(ValueError) as refused:
        SupervisorSettings(**given)  # type: ignore[arg-type]
    return in_options(refused.value)


def test_the_defaults_hold() -> None:
    settings = SupervisorSettings()
    assert settings.processes == processors() >= 1
    assert settings.drain_timeout < settings.grace
    assert settings.seats == 2 * settings.most + 1 + SPARES


def test_what_cannot_be_is_refused_with_a_sentence() -> None:
    assert refusal(processes=0) == "expected --processes to be at least 1, got 0"
    assert refusal(max_restarts=-1) == "expected --max-restarts to be zero or more, got -1"
    assert refusal(boot_timeout=timedelta(0)) == "expected --boot-timeout to be above zero, got 0s"
    assert refusal(app_dir="/no/such") == "expected --app-dir to be a folder, got '/no/such'"
    assert refusal(log_format="xml") == "expected --log-format to be plain, rich or json, got 'xml'"
    assert refusal(worker=WorkerSettings(drain_timeout=None)).startswith(
        "expected --drain-timeout to be a dur"
    )


def test_a_workers_patience_must_end_before_the_supervisors() -> None:
    assert refusal(kill_margin=timedelta(0)) == (
        "expected a worker's drain (30s) to end before the supervisor's grace (30s)"
    )


def test_a_workers_sentence_is_told_in_options() -> None:
    with pytest.raises(ValueError) as refused:
        WorkerSettings(max_crashes=0)
    assert in_options(refused.value) == "expected --max-crashes to be at least 1, got 0"
    assert in_options(ValueError("something else")) == "something else"


def test_the_number_of_processes_stays_within_its_bounds() -> None:
    assert refusal(processes=3, min_processes=0) == "expected --min-processes to be at least 1, got 0"
    assert refusal(processes=3, min_processes=4, max_processes=2) == (
        "expected --max-processes to be at least --min-processes (4), got 2"
    )
    assert refusal(processes=9, min_processes=2, max_processes=8) == (
        "expected --processes to be between --min-processes and --max-processes (2 and 8), got 9"
    )
    assert refusal(processes=2, min_ready=3) == (
        "expected --min-ready to be between 1 and --processes (2), got 3"
    )


def test_without_a_bound_there_is_room_to_grow() -> None:
    assert (SupervisorSettings(processes=2).most, SupervisorSettings(processes=8).most) == (16, 32)


@pytest.mark.parametrize(
    ("text", "fewest", "most", "expected"),
    [
        ("4", None, None, (4, 1, None, False)),
        ("4", 2, 8, (4, 2, 8, False)),
        ("auto", None, None, (processors(), 1, None, False)),
        ("AUTO", 1000, 2000, (1000, 1000, 2000, True)),
        ("auto", None, 1, (1, 1, 1, True)),
        ("auto", 1, None, (processors(), 1, processors(), True)),
        ("2..8", None, None, (2, 2, 8, True)),
        (" 2 .. 8 ", None, None, (2, 2, 8, True)),
    ],
)
def test_processes_are_a_number_or_a_range(
    text: str, fewest: int | None, most: int | None, expected: tuple[int, int, int | None, bool]
) -> None:
    assert tuple(numbers(text, fewest, most).values()) == expected


@pytest.mark.parametrize(
    ("text", "fewest", "sentence"),
    [
        ("many", None, "expected --processes to be a number, auto or a range such as 2..8, got 'many'"),
        ("2..", None, "expected --processes to be a number, auto or a range such as 2..8, got '2..'"),
        (
            "2..8",
            1,
            "expected the bounds once, got --processes 2..8 beside --min-processes or --max-processes",
        ),
    ],
)
def test_what_is_neither_is_refused(text: str, fewest: int | None, sentence: str) -> None:
    with pytest.raises(ValueError) as refused:
        numbers(text, fewest, None)
    assert str(refused.value) == sentence
