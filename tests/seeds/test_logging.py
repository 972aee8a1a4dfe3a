"""The examples of "Advanced Logging and Debugging"."""

from __future__ import annotations

import json
import logging
from typing import Annotated

import pytest

from docket import Docket, Logged, logs, tasks, testing
from tests.seeds.conftest import Noted
from tests.seeds.documents import PATTERNS, example, imports


@pytest.fixture(autouse=True)
def everything_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "docket")


async def test_arguments_that_may_be_logged(docket: Docket, caplog: pytest.LogCaptureFixture):
    names = await example(PATTERNS, "Argument Logging").run({})
    await docket.add(names["process_payment"], key="k")(
        "12345", credit_card="4111 1111", amount=150.0, trace_id="abc-123"
    )
    await testing.run_to_the_end(docket)
    call = "process_payment('12345', credit_card=..., amount=150.0, trace_id='abc-123'){k}"
    began, ended = [message for message in caplog.messages if call in message]
    assert began.startswith("↪ [") and ended.startswith("↩ [") and ended.endswith(" completed")
    assert "4111" not in caplog.text


async def test_lengths_of_collections(docket: Docket, caplog: pytest.LogCaptureFixture):
    names = await example(PATTERNS, "Collection Length Logging").run(
        imports(Annotated=Annotated, Logged=Logged)
    )
    await docket.add(names["bulk_update_users"])(
        [str(i) for i in range(150)],
        metadata={str(i): "x" for i in range(5)},
        options={"a", "b", "c"},
    )
    await testing.run_to_the_end(docket)
    assert "bulk_update_users([len 150], metadata={len 5}, options={len 3})" in caplog.text


async def test_a_logger_with_the_tasks_context(
    docket: Docket, noted: Noted, caplog: pytest.LogCaptureFixture
):
    names = imports(**noted.all("extract_data", "transform_data", "load_data"))
    await example(PATTERNS, "Task Context Logging").run(names)
    await docket.add(names["complex_data_pipeline"], key="k")("d1")
    await testing.run_to_the_end(docket, name="here")
    said = [record for record in caplog.records if record.name == "docket.task.complex_data_pipeline"]
    assert [record.message for record in said] == [
        "Starting data pipeline",
        "Data extraction completed",
        "Data transformation completed",
        "Data loading completed",
    ]
    for record in said:
        context = vars(record)
        assert (context["task"], context["key"], context["worker"]) == ("complex_data_pipeline", "k", "here")
        assert (context["docket"], context["attempt"]) == (docket.name, 1)
    assert vars(said[0])["dataset_id"] == "d1" and "dataset_id" not in vars(said[1])


async def test_the_context_of_what_fails_in_json(
    docket: Docket, noted: Noted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def explode(_: str) -> None:
        raise ValueError("no such dataset")

    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", list(root.handlers))
    names = imports(**noted.all("transform_data", "load_data"), extract_data=noted("extract_data", explode))
    await example(PATTERNS, "Task Context Logging").run(names)
    await docket.add(names["complex_data_pipeline"], key="k")("d1")
    logs.configure("json", "INFO")
    await testing.run_to_the_end(docket)
    lines = {line["message"]: line for line in map(json.loads, capsys.readouterr().err.splitlines())}
    failed = lines["Pipeline failed"]
    assert (failed["error"], failed["key"], failed["task"]) == (
        "no such dataset",
        "k",
        "complex_data_pipeline",
    )
    (began,) = [line for message, line in lines.items() if message.startswith("↪")]
    (ended,) = [line for message, line in lines.items() if message.startswith("↩")]
    assert began["key"] == ended["key"] == "k" and began["task"] == "complex_data_pipeline"
    assert began["lateness"] >= 0 and ended["duration"] >= 0 and ended["outcome"] == "failed"


async def test_utility_tasks(docket: Docket, caplog: pytest.LogCaptureFixture):
    await example(PATTERNS, "Built-in Utility Tasks").run(imports(docket=docket))
    await testing.assert_task_count(docket, tasks.trace, count=2)
    await testing.run_to_the_end(docket)
    traced = [record.message for record in caplog.records if record.name == "docket.task.trace"]
    assert traced == ["System startup completed", "Processing batch 123"]
    assert "Exception: Testing error notification system" in caplog.text
