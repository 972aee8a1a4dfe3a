"""A full disk costs figures, and no process: what the client maps has its blocks already."""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import prometheus_client.values as values
import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.mmap_dict import MmapedDict

from docket_supervisor.exposition import Application, expose
from docket_supervisor.metrics_files import VARIABLE, MetricsFiles
from docket_supervisor.reserved import Reserved, value_class


class Disk:
    """Refuses to reserve more than `room` bytes of a file. `size`: None is as much as there is."""

    room: int | None = None

    def allocate(self, file: int, offset: int, size: int) -> None:
        if self.room is not None and size > self.room:
            # As on some file systems: it got that far.
            os.ftruncate(file, self.room)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        allocate(file, offset, size)


allocate = os.posix_fallocate


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(os, "posix_fallocate", disk.allocate)
    return disk


@pytest.fixture
def lacking() -> list[OSError]:
    return []


@pytest.fixture
def opened(tmp_path: Path, lacking: list[OSError]) -> Callable[[], Reserved]:
    return lambda: Reserved(str(tmp_path / "counter_3.db"), lambda path, error: lacking.append(error))


def count(file: Reserved | MmapedDict, key: str, value: float) -> None:
    """As a value does, that is new in its process."""
    before, _ = file.read_value(key)
    file.write_value(key, before + value, 0.0)


def kept(folder: Path) -> dict[str, float]:
    told = MmapedDict.read_all_values_from_file(str(folder / "counter_3.db"))
    return {key: value for key, value, _, _ in told}


def has_its_blocks(path: Path) -> bool:
    found = path.stat()
    return found.st_blocks * 512 >= found.st_size


KEYS = [f"[{number}, {'x' * (number % 9)!r}]" for number in range(1000)]


@pytest.mark.parametrize("by_libc", [True, False], ids=["reserved", "written"])
def test_every_block_is_there_however_large_the_file_grows(
    opened: Callable[[], Reserved], tmp_path: Path, by_libc: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not by_libc:
        monkeypatch.delattr(os, "posix_fallocate")
    path, file, sizes = tmp_path / "counter_3.db", opened(), set[int]()
    for key in [*KEYS, "long" * 50_000]:
        count(file, key, 1)
        sizes.add(path.stat().st_size)
        assert has_its_blocks(path)
    file.close()
    assert len(sizes) > 4
    # The next worker in this seat counts on, as the client itself would.
    for again in (opened(), MmapedDict(str(path))):
        count(again, KEYS[3], 1)
        again.close()
    assert kept(tmp_path) == {key: 3 if key == KEYS[3] else 1 for key in (*KEYS, "long" * 50_000)}


def test_the_holes_of_a_file_that_the_client_has_made_are_filled(
    opened: Callable[[], Reserved], tmp_path: Path
) -> None:
    path = tmp_path / "counter_3.db"
    theirs = MmapedDict(str(path))
    theirs.write_value("key", 5.0, 0.0)
    theirs.close()
    assert not has_its_blocks(path)
    file = opened()
    count(file, "key", 1)
    file.close()
    assert has_its_blocks(path) and kept(tmp_path) == {"key": 6}


def test_without_room_values_are_kept_in_memory(
    opened: Callable[[], Reserved], tmp_path: Path, disk: Disk, lacking: list[OSError]
) -> None:
    disk.room = 0
    file = opened()
    count(file, "key", 1)
    count(file, "key", 1)
    assert file.read_value("key") == (2.0, 0.0)
    file.close()
    assert [error.errno for error in lacking] == [errno.ENOSPC]
    assert (tmp_path / "counter_3.db").stat().st_size == 0


def test_a_file_that_cannot_grow_keeps_what_it_has(
    opened: Callable[[], Reserved], tmp_path: Path, disk: Disk, lacking: list[OSError]
) -> None:
    file = opened()
    disk.room = (tmp_path / "counter_3.db").stat().st_size
    for _ in range(2):
        for key in KEYS:
            count(file, key, 1)
    assert {file.read_value(key) for key in KEYS} == {(2.0, 0.0)} and lacking
    in_file = kept(tmp_path)
    assert 0 < len(in_file) < len(KEYS) and set(in_file.values()) == {2}
    assert (tmp_path / "counter_3.db").stat().st_size == disk.room
    # Whoever is next, and finds room, has the rest of it.
    file.close()
    disk.room = None
    file = opened()
    for key in KEYS:
        count(file, key, 1)
    assert set(kept(tmp_path)) == set(KEYS)
    file.close()


class TestTheClient:
    @pytest.fixture(autouse=True)
    def counting_in_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(VARIABLE, str(tmp_path))
        monkeypatch.setattr(values, "MmapedDict", MmapedDict)
        monkeypatch.setattr(values, "ValueClass", value_class(lambda: "3"))

    def test_what_is_counted_is_shown(self, tmp_path: Path) -> None:
        registry = CollectorRegistry()
        Counter("mails", "Mails.", ["kind"], registry=registry).labels("order").inc(2)
        Histogram("sizes", "Sizes.", registry=registry).observe(3)
        shown, _ = expose([Application(str(tmp_path))], "")
        assert b'mails_total{kind="order"} 2.0' in shown and b"sizes_count 1.0" in shown

    def test_on_a_full_disk_it_is_not_and_that_is_told_once(
        self, tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
    ) -> None:
        disk.room = 0
        registry = CollectorRegistry()
        mails = Counter("mails", "Mails.", ["kind"], registry=registry)
        sizes = Histogram("sizes", "Sizes.", registry=registry)
        for kind in ("order", "bill"):
            mails.labels(kind).inc(2)
            sizes.observe(3)
        assert registry.get_sample_value("mails_total", {"kind": "order"}) == 2
        assert expose([Application(str(tmp_path))], "")[0] == b""
        (told,) = [record.getMessage() for record in caplog.records]
        assert "No space left on device" in told and f"restart with {VARIABLE} set to another" in told

    def test_who_counts_log_records_may_count_that_one(
        self, disk: Disk, caplog: pytest.LogCaptureFixture
    ) -> None:
        records = Counter("records", "Log records.", ["level"], registry=CollectorRegistry())

        class Counting(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                records.labels(record.levelname).inc()

        disk.room = 0
        handler = Counting()
        logging.getLogger("docket.worker").addHandler(handler)
        try:
            counting = threading.Thread(target=lambda: records.labels("INFO").inc(), daemon=True)
            counting.start()
            counting.join(10)
            assert not counting.is_alive() and len(caplog.records) == 1
        finally:
            logging.getLogger("docket.worker").removeHandler(handler)

    def test_what_the_template_had_no_room_for_is_not_told_by_its_children(
        self, disk: Disk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk.room = 0
        mails = Counter("mails", "Mails.", registry=CollectorRegistry())
        monkeypatch.setattr(os, "getpid", lambda: 4711)
        mails.inc()
        assert caplog.records == []


def test_without_a_folder_there_is_a_service_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(prefix: str) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(tempfile, "mkdtemp", full)
    files = MetricsFiles()
    files.open()
    files.adopt("3")
    files.forget(3)
    files.close()
    assert files.folder == "" and VARIABLE not in os.environ
    assert "No space left on device" in caplog.text
