"""The examples of "Task Chain Patterns"."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from docket import Docket, testing
from tests.seeds.conftest import Noted
from tests.seeds.documents import PATTERNS, example, imports


@pytest.mark.parametrize("valid", [True, False])
async def test_one_after_another(valid: bool, docket: Docket, noted: Noted):
    names = imports(
        download_file=noted("download_file", "/tmp/data"),
        is_valid_data=noted("is_valid_data", valid),
        **noted.all("handle_invalid_data", "transform_and_store"),
    )
    await example(PATTERNS, "Sequential Processing").run(names)
    await docket.add(names["download_data"])("https://example.com")
    await testing.run_to_the_end(docket)
    assert noted.calls == [
        ("download_file", "https://example.com"),
        ("is_valid_data", "/tmp/data"),
        ("transform_and_store" if valid else "handle_invalid_data", "/tmp/data"),
    ]


async def test_fanning_out(docket: Docket, noted: Noted):
    names = imports(
        split_dataset_into_chunks=noted("split_dataset_into_chunks", ["a", "b", "c"]),
        **noted.all("process_data_chunk", "mark_chunk_complete", "finalize_dataset"),
    )
    await example(PATTERNS, "Fan-out Processing").run(names)
    await docket.add(names["process_large_dataset"])("d1")
    await testing.run_what_is_due(docket)
    assert {call for call in noted.calls if call[0] == "mark_chunk_complete"} == {
        ("mark_chunk_complete", "d1", chunk) for chunk in "abc"
    }
    await testing.assert_task_count(docket, count=1)
    await testing.assert_task_scheduled(docket, "finalize_dataset", args=("d1", 3), key="finalize-d1")
    await testing.advance(docket, timedelta(hours=2))
    await testing.run_what_is_due(docket)
    assert noted.calls[-1] == ("finalize_dataset", "d1", 3)


class Behavior:
    def __init__(self, what: str) -> None:
        self.what = what

    def indicates_churn_risk(self) -> bool:
        return self.what == "churn"

    def indicates_upsell_opportunity(self) -> bool:
        return self.what == "upsell"

    def indicates_satisfaction(self) -> bool:
        return self.what == "satisfaction"


@pytest.mark.parametrize(
    ("what", "follows"), [("churn", "create_retention_campaign"), ("upsell", "create_upsell_campaign")]
)
async def test_deciding_what_follows(what: str, follows: str, docket: Docket, noted: Noted):
    names = imports(
        collect_user_behavior=noted("collect_user_behavior", Behavior(what)),
        **noted.all("create_retention_campaign", "create_upsell_campaign"),
    )
    await example(PATTERNS, "Conditional Workflows").run(names)
    await docket.add(names["analyze_user_behavior"])("u1")
    await testing.run_to_the_end(docket)
    assert noted.calls[1:] == [(follows, "u1")]


async def test_following_up_later(docket: Docket, noted: Noted):
    names = imports(collect_user_behavior=noted("collect_user_behavior", Behavior("satisfaction")))
    await example(PATTERNS, "Conditional Workflows").run(names)
    await docket.add(names["analyze_user_behavior"])("u1")
    for _ in range(2):  # the second is the first follow-up: it adds its own key from inside
        await testing.run_what_is_due(docket)
        (following,) = (await docket.snapshot()).future
        assert following.key == "behavior-check-u1"
        assert abs(following.when - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)
        await testing.advance(docket, timedelta(days=30))
