"""The examples of "Concurrency Control"."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from docket import ConcurrencyLimit, Docket, testing
from tests.seeds.documents import PATTERNS, example, imports


class Counted:
    """Functions that somebody else has written; how many were in each at once is counted, apart for each `by`."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.inside: dict[Any, int] = {}
        self.most: dict[Any, int] = {}

    def __call__(self, name: str, by: Callable[..., Any] = lambda *_: "all") -> Callable[..., Any]:
        async def function(*args: Any) -> None:
            place = by(*args)
            self.inside[place] = self.inside.get(place, 0) + 1
            self.most[place] = max(self.most.get(place, 0), self.inside[place])
            self.calls.append((name, *args))
            await asyncio.sleep(0.01)
            self.inside[place] -= 1

        return function


def names_with(docket: Docket, **more: Any) -> dict[str, Any]:
    return imports(docket=docket, ConcurrencyLimit=ConcurrencyLimit, **more)


async def test_one_at_a_time_for_each_customer(docket: Docket):
    counted = Counted()
    by_customer = {"by": lambda customer: customer}
    await example(PATTERNS, "Basic Concurrency Limits").run(
        names_with(
            docket,
            update_customer_profile=counted("update_customer_profile", **by_customer),
            recalculate_customer_metrics=counted("recalculate_customer_metrics", **by_customer),
        )
    )
    await testing.run_to_the_end(docket)
    assert sorted(args for name, *args in counted.calls if name == "update_customer_profile") == [
        [1001],
        [1001],
        [1001],
        [2001],
        [3001],
    ]
    assert counted.most == {1001: 1, 2001: 1, 3001: 1}


async def test_two_for_each_database(docket: Docket):
    counted = Counted()
    await example(PATTERNS, "Database Connection Pooling").run(
        names_with(
            docket,
            create_table_backup=counted("create", lambda database, _: database),
            verify_backup_integrity=counted("verify", lambda database, _: (database, "verify")),
        )
    )
    await testing.run_to_the_end(docket)
    assert len(counted.calls) == 20
    assert counted.most["production"] == counted.most["staging"] == 2


async def test_so_many_for_each_service(docket: Docket):
    counted = Counted()

    class Client:
        def __init__(self, service: str) -> None:
            self.sync_user = counted(service)

    await example(PATTERNS, "API Rate Limiting").run(
        names_with(docket, get_api_client=Client, fetch_user_data=counted("fetch"))
    )
    await testing.run_to_the_end(docket)
    assert sorted(name for name, *_ in counted.calls) == ["fetch"] * 3 + ["hubspot"] + ["salesforce"] * 2


async def test_so_many_for_each_kind_of_file(docket: Docket):
    counted = Counted()
    names = names_with(
        docket, **{name: counted(name) for name in ("transcode_video", "resize_image", "compress_audio")}
    )
    await example(PATTERNS, "File Processing Limits").run(names)
    await docket.add(names["process_media_file"])("/audio/song.mp3", "audio_compress")
    for number in range(6):
        await docket.add(names["process_media_file"])(f"/videos/{number}.mp4", "video_transcode")
    transcoding = Counted()
    names["transcode_video"] = transcoding("transcode_video")
    await testing.run_to_the_end(docket)
    assert len(transcoding.calls) == 8 and transcoding.most == {"all": 3}
    assert sorted(counted.calls) == [
        ("compress_audio", "/audio/song.mp3"),
        ("resize_image", "/images/photo1.jpg"),
    ]


async def test_scopes(docket: Docket):
    tenants, data = Counted(), Counted()
    names = await example(PATTERNS, "Custom Scopes").run(
        names_with(
            docket,
            perform_tenant_operation=tenants("perform", lambda tenant, _: tenant),
            process_global_data_type=data("process", lambda kind: kind),
        )
    )
    for _ in range(5):
        await docket.add(names["process_tenant_data"])("acme", "import")
        await docket.add(names["process_global_data"])("prices")
    await testing.run_to_the_end(docket)
    assert tenants.most == {"acme": 2} and data.most == {"prices": 1}
    assert len(tenants.calls) == len(data.calls) == 5


async def test_several_limits(docket: Docket):
    counted = {name: Counted() for name in ("user", "kind", "region")}

    async def generate_user_export(*args: Any) -> None:
        who = zip(counted.values(), args, strict=True)
        await asyncio.gather(*(each("export", lambda value: value)(value) for each, value in who))

    names = await example(PATTERNS, "Multi-Level Concurrency").run(
        names_with(docket, generate_user_export=generate_user_export)
    )
    for user_id in range(12):
        for _ in range(2):
            kind = "csv" if user_id % 2 else "pdf"
            await docket.add(names["process_user_export"])(user_id, kind, "eu")
    await testing.run_to_the_end(docket, concurrency=20)
    assert counted["user"].most == dict.fromkeys(range(12), 1)
    assert counted["kind"].most == {"csv": 3, "pdf": 3}
    assert counted["region"].most["eu"] <= 10 and len(counted["region"].calls) == 24


async def test_monitoring(docket: Docket, capsys: pytest.CaptureFixture[str]):
    """As printed, but for the docket's name: those of the tests are not called `docket`."""
    looked = asyncio.Event()
    both = asyncio.Barrier(2)
    printed = example(PATTERNS, "Monitoring Concurrency").changed('"docket:', f'"{docket.name}:')
    names = await printed.run(names_with(docket))
    monitor: Callable[[], Coroutine[Any, Any, None]] = names["monitor_concurrency_usage"]

    async def process(
        customer_id: int, limit: ConcurrencyLimit = ConcurrencyLimit("customer_id", max_concurrent=2)
    ) -> None:
        if await both.wait() == 0:
            await monitor()
            looked.set()
        await looked.wait()

    for _ in range(2):
        await docket.add(process)(1001)
    await testing.run_to_the_end(docket)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "Customer 1001 has 2 active tasks"
    assert second.endswith(f"{docket.name}:concurrency:customer_id:1001': 2 active tasks")
