"""Settings are validated once, in sentences that name the option."""

from __future__ import annotations

from datetime import timedelta

import pytest

from docket_runtime.settings import WorkerSettings
from docket_supervisor.settings import SupervisorSettings, in_options, processors


def refusal(**given: object) -> str:
    with pytest.raises(ValueError) as refused:
        SupervisorSettings(**given)  # type: ignore[arg-type]
    return in_options(refused.value)


def test_the_defaults_hold() -> None:
    settings = SupervisorSettings()
    assert settings.processes == processors() >= 1
    assert settings.drain_timeout < settings.grace
    assert settings.seats == 2 * settings.processes + 1


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
