"""One log line for each death: what ended the worker, after how long, and what it was running."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence

from docket_supervisor.autopsy import Finding
from docket_supervisor.board import InFlight
from docket_supervisor.codes import ExitCode
from docket_supervisor.deaths import Death
from docket_supervisor.posts import Post
from docket_supervisor.restarts import Life

logger = logging.getLogger("docket.supervisor")


def tell(
    post: Post,
    death: Death,
    life: Life,
    running: Sequence[InFlight],
    finding: Finding,
    *,
    asked_to_leave: bool,
) -> None:
    """A warning, unless the worker left by itself or because we asked it to."""
    obeyed = asked_to_leave and not post.killed and death.signal != signal.SIGKILL
    what = ", ".join(map(str, running)) or "nothing"
    logger.log(
        logging.INFO if (death.code == ExitCode.CLEAN and not finding.guilty) or obeyed else logging.WARNING,
        "%s %s after %.1fs, running %s%s",
        post.title,
        finding.cause,
        life.seconds,
        what,
        f"; {finding.memory}" if finding.memory else "",
        extra={
            "slot": None if post.quarantine else post.slot,
            "worker_pid": death.pid,
            "cause": finding.cause,
            "label": finding.label,
            "uptime": round(life.seconds, 3),
            "running": [each.key for each in running],
        },
    )
