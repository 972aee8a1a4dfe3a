"""Log lines come out on standard error in the form that was asked for."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from docket import logs


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_process_without_standard_error_logs_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    assert logs.default_format() == "plain"


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_plain_lines_carry_the_moment_the_level_the_process_and_the_logger(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("plain", "INFO")
    logging.getLogger("docket.worker").info("claimed %d", 3)
    (line,) = capsys.readouterr().err.splitlines()
    moment, level, process, logger, message = line.split(" ", 4)
    assert moment.endswith("Z") and level == "INFO" and process.startswith("[")
    assert (logger, message) == ("docket.worker:", "claimed 3")


def test_json_is_one_object_a_line_with_the_extras(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "INFO")
    logger = logging.getLogger("docket.worker")
    logger.info("settled\ntwice", extra={"key": "k1", "odd": Unspeakable()})
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("failed")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first["message"] == "settled\ntwice" and first["level"] == "INFO"
    assert first["logger"] == "docket.worker" and first["key"] == "k1" and first["timestamp"].endswith("Z")
    assert first["odd"] == "<Unspeakable whose str() raised RuntimeError>"
    assert "ValueError: why" in second["exception"]


def test_rich_lines_carry_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("rich", "INFO")
    logging.getLogger("docket.worker").info("[not markup]")
    assert "[not markup]" in capsys.readouterr().err


def test_what_lies_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("plain", "WARNING")
    logging.getLogger("docket.worker").info("chatter")
    assert capsys.readouterr().err == ""


def test_a_second_configuration_replaces_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("plain", "INFO")
    logs.configure("plain", "INFO")
    logging.getLogger("docket").info("once")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_unknown_forms_and_levels_are_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match="plain, rich or json, got 'xml'"):
        logs.checked_format("xml")
    with pytest.raises(ValueError, match="got 'LOUD'"):
        logs.checked_level("LOUD")
    assert logs.checked_level("info") == "INFO"
