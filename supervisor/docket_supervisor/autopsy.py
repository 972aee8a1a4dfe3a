"""What a worker died of, who is to blame for it, and what is told about it."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from docket import clock, stacks
from docket_supervisor import hangs
from docket_supervisor.board import InFlight
from docket_supervisor.codes import ExitCode
from docket_supervisor.deaths import Death
from docket_supervisor.oom import OutOfMemory
from docket_supervisor.posts import Post

_LONGEST_STACK = 1500
"""Characters in the cause of a dead letter."""
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Finding:
    """`label` is one word of few; `cause` reads on after the process's name; `memory` and `stack` may be empty."""

    label: str
    cause: str
    memory: str
    stack: str
    guilty: tuple[InFlight, ...]
    """Suspected of having killed it; all others are innocent."""
    late: tuple[InFlight, ...]
    """Over their time limit, and settled by that now that they have certainly ended."""

    def __str__(self) -> str:
        told = self.cause + (f", {self.memory}" if self.memory else "")
        return told + (f"\nlast stack, innermost first:\n{self.stack}" if self.stack else "")


def examine(
    post: Post, death: Death, running: Sequence[InFlight], oom: OutOfMemory, dump: str = ""
) -> Finding:
    """`dump`: what the process wrote as it died."""
    sentence = post.sentence
    gone = left(post, death)
    ours = post.killed or (gone and sentence is not None and death.code == ExitCode.HANDED_BACK)
    late = hangs.too_late(running, clock.monotonic(), post.watch.place) if ours or gone else []
    guilty: list[InFlight] = []
    label, cause = death.label, death.cause
    if ours:
        if sentence is not None:
            label, cause = sentence.label, f"{cause} ({sentence.why})"
            guilty = [each for each in running if each.entry in sentence.guilty and each not in late]
    elif not gone:
        guilty = list(running)
        if death.signal == signal.SIGKILL and (proof := oom.struck()):
            label, cause = "oom", f"{cause} (out of memory: {proof})"
    told = dump if stacks.parse(dump) else post.watch.dump if ours else ""
    return Finding(
        label, cause, _memory(post, death), _stack(told, guilty or late), tuple(guilty), tuple(late)
    )


def left(post: Post, death: Death) -> bool:
    """It went all the way to its end, though perhaps without having been able to stop all that it ran.

    The exit status alone proves nothing: a task can end its process with any. A worker writes down that it has left
    when nothing of it is left to do, and a task that ends the process meanwhile keeps it from that.
    """
    return death.code in (ExitCode.CLEAN, ExitCode.HANDED_BACK) and post.seat.phase in ("left", "parked")


def _memory(post: Post, death: Death) -> str:
    parts: list[str] = []
    if post.watch.private_bytes:
        ago = clock.monotonic() - post.watch.sampled_at
        parts.append(f"private memory {size(post.watch.private_bytes)} {ago:.0f}s before")
    if death.peak:
        parts.append(f"{size(death.peak)} resident at its peak")
    return ", ".join(parts)


def size(amount: float) -> str:
    """`1.5 GiB`"""
    unit = 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.1f} {_UNITS[unit]}" if unit else f"{amount:.0f} B"


def _stack(dump: str, concerned: Sequence[InFlight]) -> str:
    """That of the execution concerned, down to where our own code called it; else that of the main thread."""
    threads = stacks.parse(dump)
    if not threads:
        return ""
    places = {each.place for each in concerned}
    chosen = next((each for each in threads if stacks.place_of(each) in places), threads[-1])
    lines: list[str] = []
    for frame in stacks.without_ours(chosen):
        lines.append(f"  {frame} in {frame.name}")
        if sum(map(len, lines)) > _LONGEST_STACK:
            lines[-1] = "  …"
            break
    return "\n".join(lines)
