"""One log line for each death: what ended the worker, after how long, and what it was running."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence

from docket_supervisor.board import InFlight
from docket_supervisor.codes import ExitCode
from docket_supervisor.deaths import Death
from docket_supervisor.posts import Post
from docket_supervisor.restarts import Life

logger = logging.getLogger("docket.supervisor")


def tell(post: Post, death: Death, life: Life, running: Sequence[InFlight], *, asked_to_leave: bool) -> None:
    """A warning, unless the worker left by itself or because we asked it to."""
    obeyed = asked_to_leave and not post.killed and death.signal != signal.SIGKILL
    what = ", ".join(f"{each.key} ({each.task})" for each in running) or "nothing"
    logger.log(
        logging.INFO if death.code == ExitCode.CLEAN or obeyed else logging.WARNING,
        "%s %s after %.1fs, running %s",
        post.title,
        death.cause,
        life.seconds,
        what,
        extra={
            "slot": None if post.quarantine else post.slot,
            "worker_pid": death.pid,
            "cause": death.cause,
            "uptime": round(life.seconds, 3),
            "running": [each.key for each in running],
        },
    )
