"""How the service stands, put together from the board alone: whoever holds the board can tell.

This is the documented JSON of `/status` and of `docket-supervise status --json`. What is not known is null.
"""

from __future__ import annotations

from typing import Any

from docket import clock
from docket_supervisor.board import Board, InFlight, Seat
from docket_supervisor.bulletin import SlotNotice
from docket_supervisor.memory import private_bytes
from docket_supervisor.settings import SupervisorSettings


def assemble(board: Board, settings: SupervisorSettings) -> dict[str, Any]:
    """Ages are of this moment; private memory is read from the kernel now."""
    now = clock.monotonic()
    bulletin = board.bulletin
    preloaded = bulletin.template_pid != 0
    return {
        "docket": settings.docket.name,
        "supervisor": {
            "pid": bulletin.supervisor_pid,
            "phase": bulletin.phase or "starting",
            "generation": bulletin.generation,
            "uptime_s": round(now - bulletin.started_at, 3) if bulletin.started_at else 0.0,
        },
        "steward": {"pid": bulletin.steward_pid or None},
        "template": {
            "pid": bulletin.template_pid or None,
            "modules": _modules(settings) if preloaded else [],
        },
        "slots": [_slot(number, board, settings, now) for number in range(bulletin.wanted)],
        "queue": _queue(board),
        "totals": _totals(board),
    }


def _modules(settings: SupervisorSettings) -> list[str]:
    """Those that the template has imported for all, in the order in which they were named."""
    return list(dict.fromkeys(reference.partition(":")[0] for reference in settings.worker.tasks))


def _slot(number: int, board: Board, settings: SupervisorSettings, now: float) -> dict[str, Any]:
    notice = board.bulletin.slots[number]
    seat = board.seats[notice.seat] if notice.seat >= 0 else None
    pid = seat.pid if seat else 0
    death = notice.last_death
    return {
        "slot": number,
        "pid": pid or None,
        "state": _state(notice, seat if pid else None),
        "generation": notice.generation,
        "running": [_running(each, now) for each in seat.inflight] if seat and pid else [],
        "concurrency": settings.worker.concurrency,
        "threads": settings.worker.threads or settings.worker.concurrency,
        "loop_lag_ms": _loop_lag_ms(seat, now) if seat and pid else None,
        "private_bytes": private_bytes(pid) if pid else None,
        "restarts": notice.restarts,
        "last_death": death and {"cause": death.cause, "at": clock.isoformat(round(death.at * 1e6))},
    }


def _state(notice: SlotNotice, seat: Seat | None) -> str:
    """What the worker says of itself; of a slot without one, why there is none."""
    return (seat.phase or "starting") if seat else notice.state or "vacant"


def _running(each: InFlight, now: float) -> dict[str, Any]:
    return {
        "key": each.key,
        "task": each.task,
        "age_s": round(max(0.0, now - each.started_at), 3),
        "where": "thread" if each.thread else "loop",
    }


def _loop_lag_ms(seat: Seat, now: float) -> float | None:
    """What its last tick was late by, or the next one is by now: a loop that is blocked does not say so itself. Null
    until it has turned."""
    if not seat.ticked_at:
        return None
    return round(1000 * max(seat.loop_lag, now - seat.ticked_at - seat.pause, 0.0), 1)


def _queue(board: Board) -> dict[str, Any]:
    queue = board.bulletin.queue
    if queue is None:
        return dict.fromkeys(("due", "scheduled", "waiting", "dead", "latency_s"))
    return {
        "due": queue.due,
        "scheduled": queue.scheduled,
        "waiting": queue.waiting,
        "dead": queue.dead,
        "latency_s": round(queue.latency, 3),
    }


def _totals(board: Board) -> dict[str, int]:
    """Of all workers since the supervisor started, also of those that have died."""
    rows = board.tallies.rows()
    return {
        "started": sum(row["started"] for row in rows),
        "completed": sum(row["succeeded"] for row in rows),
        "failed": sum(row["failed"] for row in rows),
        "redelivered": sum(row["redelivered"] for row in rows),
    }
