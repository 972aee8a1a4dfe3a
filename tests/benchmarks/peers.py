"""The peers: what is installed, the command that their projects tell people to start, and what they cannot do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from tests.benchmarks.contestants import Contestant
from tests.benchmarks.environments import prepared

PLAIN = {"nothing": "nothing_sync", "rest": "rest_sync"}
"""What stands for an async task where there are only plain functions."""
NO_ASYNC = {"async": "runs plain functions only"}
NO_BULK = {"bulk": "has no call that adds many"}


@dataclass(frozen=True)
class Work:
    """What a worker is started for: the command may differ, as its project's manual has it."""

    task: str
    processes: int
    concurrency: int

    @property
    def waits(self) -> bool:
        return self.task.startswith("rest")

    @property
    def is_short(self) -> bool:
        return self.task.startswith("nothing")


Commands = Callable[[Work], list[str]]


@dataclass(frozen=True)
class Peer(Contestant):
    commands: Commands = field(default=lambda work: [])
    """One for each process that is started, without the interpreter. `python -m` is put before each."""
    variables: Callable[[Work], Mapping[str, str]] = field(default=lambda work: {})
    """Of the environment, for settings that are made there."""
    short_at_once: int = 100
    """Of short tasks: some are slower the more they have under way."""
    names: Mapping[str, str] = field(default_factory=dict[str, str])

    def suited(self, work: Work) -> Work:
        """As this one does it best."""
        return replace(work, concurrency=min(work.concurrency, self.short_at_once)) if work.is_short else work

    def task(self, name: str) -> str:
        return self.names.get(name, name)


def _taskiq(work: Work) -> list[str]:
    worker = f"taskiq worker taskiq_peer:broker --workers {work.processes} --log-level WARNING --no-parse"
    worker += f" --max-async-tasks {work.concurrency} --max-prefetch {work.concurrency}"
    scheduler = (
        "taskiq scheduler taskiq_peer:scheduler --log-level WARNING --update-interval 1 --loop-interval 1"
    )
    return [worker, *[scheduler] * (work.task == "due")]


def _arq(work: Work) -> list[str]:
    return ["arq arq_peer.WorkerSettings"] * work.processes


def _saq(work: Work) -> list[str]:
    return [f"saq saq_peer.settings --quiet --workers {work.processes}"]


def _streaq(work: Work) -> list[str]:
    return [f"streaq run streaq_peer:worker --workers {work.processes}"]


def _dramatiq(work: Work) -> list[str]:
    threads = work.concurrency if work.waits else 1 if work.task == "compute" else 8
    return [f"dramatiq dramatiq_peer --processes {work.processes} --threads {threads} --skip-logging"]


def _fetch_ahead(work: Work) -> Mapping[str, str]:
    return {"dramatiq_queue_prefetch": "200"} if work.is_short else {}


def _celery(work: Work) -> list[str]:
    pool = f"-P threads -c {work.concurrency}" if work.waits else f"-P prefork -c {work.processes}"
    ahead = 128 if work.is_short else 4
    quiet = "--without-gossip --without-mingle --without-heartbeat -l WARNING"
    return [f"celery -A celery_peer worker {pool} --prefetch-multiplier {ahead} {quiet}"]


def _rq(work: Work) -> list[str]:
    chosen = "-w rq.worker.SimpleWorker -P . --quiet -u {url}"
    if work.task == "due":
        return [f"rq.cli worker --with-scheduler {chosen}"]
    return [f"rq.cli worker-pool -n {work.processes} {chosen}"]


def _huey(work: Work) -> list[str]:
    workers = f"-k thread -w {work.concurrency}" if work.waits else f"-k process -w {work.processes}"
    return [f"huey.bin.huey_consumer huey_peer.huey {workers} --scheduler-interval 1 --no-periodic --quiet"]


PEERS = [
    Peer(
        "taskiq",
        commands=_taskiq,
        short_at_once=10,
        packages=(
            "taskiq==0.13.0",
            "taskiq-redis==1.2.4",
            "redis==8.1.0",
            "hiredis==3.5.0",
            "uvloop==0.23.0",
        ),
        cannot=NO_BULK,
        settings="RedisStreamBroker, acknowledged when the task has been run, no result backend; uvloop, hiredis; "
        "max-async-tasks and max-prefetch as many as run at once (short tasks: 10, more are slower), --no-parse; its "
        "scheduler looks once a second",
    ),
    Peer(
        "arq",
        commands=_arq,
        packages=("arq==0.28.0", "redis==5.3.1", "hiredis==3.5.0", "uvloop==0.23.0"),
        cannot=NO_BULK,
        settings="keep_result 0; poll_delay 10 ms instead of 500 ms, which its throughput and latency hang on; "
        "uvloop, hiredis; sync work in asyncio.to_thread, as its users write it",
    ),
    Peer(
        "saq",
        commands=_saq,
        packages=(
            "saq==0.26.4",
            "redis==7.4.1",
            "hiredis==3.5.0",
            "uvloop==0.23.0",
            "typing-extensions==4.16.0",  # it imports them and does not ask for them
        ),
        cannot=NO_BULK,
        settings="no results (ttl -1), max_concurrent_ops 100; uvloop, hiredis",
    ),
    Peer(
        "streaq",
        commands=_streaq,
        short_at_once=10,
        packages=("streaq==7.2.0", "coredis==6.9.0", "uvloop==0.23.0"),
        settings="no results (ttl 0); uvloop; concurrency and sync_concurrency as many as run at once (short tasks: "
        "10, more are slower)",
    ),
    Peer(
        "dramatiq",
        commands=_dramatiq,
        variables=_fetch_ahead,
        packages=("dramatiq==2.2.1", "redis==8.1.0", "hiredis==3.5.0"),
        cannot=NO_BULK,
        settings="its default middleware and AsyncIO, no results; 8 threads (its default), 100 for tasks that wait, "
        "1 for tasks that compute; dramatiq_queue_prefetch 200 for short tasks; hiredis",
    ),
    Peer(
        "celery",
        commands=_celery,
        packages=("celery[redis]==5.7.0", "kombu==5.7.0", "redis==8.1.0", "hiredis==3.5.0"),
        cannot=NO_ASYNC | NO_BULK,
        names=PLAIN,
        settings="prefork, one child for each process asked for (beside its parent); prefetch multiplier 128 for "
        "short tasks; no results, events, gossip, mingle, heartbeat, rate limits; tasks that wait: -P threads -c 100",
    ),
    Peer(
        "rq",
        commands=_rq,
        packages=("rq==3.0.0", "redis==8.1.0", "hiredis==3.5.0"),
        cannot=NO_ASYNC | {"rest": "one task at a time in each process"},
        names=PLAIN,
        settings="SimpleWorker in a worker-pool (its default worker forks for each job), result_ttl 0; hiredis",
    ),
    Peer(
        "huey",
        commands=_huey,
        packages=("huey==3.5.4", "redis==8.1.0", "hiredis==3.5.0"),
        cannot=NO_ASYNC | NO_BULK,
        names=PLAIN,
        settings="-k process, one worker for each process asked for (beside its parent); tasks that wait: -k thread "
        "-w 100; blocking reads, no results; its scheduler looks once a second, its shortest interval; hiredis",
    ),
]
NAMES = [each.name for each in PEERS]


def peer(name: str) -> Peer:
    """Ready to be measured; Broken if it cannot be installed."""
    unprepared = next(each for each in PEERS if each.name == name)
    return replace(
        unprepared, python=prepared(name, unprepared.packages), program=f"{name}_peer.py", share=0.15
    )
