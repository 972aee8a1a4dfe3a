"""What a log tells of an execution, and what it keeps to itself."""

from __future__ import annotations

import logging
from typing import Annotated

import pytest

from docket import Docket, Logged, TaskLogger


@pytest.fixture(autouse=True)
def everything_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "docket")


async def test_only_annotated_arguments_are_logged(docket: Docket, work, caplog: pytest.LogCaptureFixture):
    """One line when an execution starts (how late it is) and one when it ends (how long it took), with the call as its
    task allows it to be shown."""

    async def pay(
        customer: Annotated[str, Logged], card: str, amount: Annotated[float, Logged] = 0.0
    ) -> None: ...

    await docket.add(pay, key="k")("12345", card="4111", amount=150.0)
    await work()
    began, ended = [line for line in caplog.messages if "pay" in line]
    assert began.startswith("↪ [0.") and began.endswith("] pay('12345', card=..., amount=150.0){k}")
    assert ended.startswith("↩ [0.") and ended.endswith("] pay('12345', card=..., amount=150.0){k} completed")


async def test_of_large_collections_the_length_is_logged(
    docket: Docket, work, caplog: pytest.LogCaptureFixture
):
    """With `Logged(length_only=True)`."""

    async def update(users: Annotated[list[int], Logged(length_only=True)]) -> None: ...

    await docket.add(update, key="k")(list(range(150)))
    await work()
    assert "update([len 150]){k}" in caplog.text


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_tasks_logger_says_which_task_speaks(
    kind: str, docket: Docket, work, caplog: pytest.LogCaptureFixture
):
    """Beside what the call itself passes as `extra`."""

    async def on_the_loop(logger: logging.LoggerAdapter[logging.Logger] = TaskLogger()) -> None:
        logger.info("begun", extra={"dataset": 7})

    def in_a_thread(logger: logging.LoggerAdapter[logging.Logger] = TaskLogger()) -> None:
        logger.info("begun", extra={"dataset": 7})

    function = on_the_loop if kind == "async" else in_a_thread
    await docket.add(function, key="k")()
    await work()
    (record,) = [record for record in caplog.records if record.message == "begun"]
    context = vars(record)
    assert record.name == f"docket.task.{function.__name__}"
    assert (context["task"], context["key"], context["attempt"]) == (function.__name__, "k", 1)
    assert (context["docket"], context["dataset"]) == (docket.name, 7) and context["worker"]
