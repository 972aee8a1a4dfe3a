"""What a worker is given by whoever started it: a board to write on and a few plain callables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from docket_runtime.board import Board, NullBoard
from docket_runtime.dumping import STANDARD_ERROR


def _nobody_vouches() -> bool:
    return False


def _untitled(on_the_loop: int, in_threads: int) -> None:
    return None


@dataclass(frozen=True)
class Surroundings:
    """The defaults describe a worker that is alone.

    `vouched` is asked before every renewal of the lease: True means that somebody else renews it. `orphaned` is the
    read end of a pipe that comes to its end when the parent has died: the worker then drains and leaves. A
    `quarantine` worker has one slot, takes only suspects, and leaves when there are none. `stacks` is the descriptor to
    which USR1 and a crash write the stacks of the process. `anew` is the command that starts this worker again in the
    place of this process; without one it is not the worker's to replace. `crew`: how many processes there are of its
    kind, this one included.
    """

    board: Board = field(default_factory=NullBoard)
    vouched: Callable[[], bool] = _nobody_vouches
    orphaned: int | None = None
    quarantine: bool = False
    suspects: bool = True
    titled: Callable[[int, int], None] = _untitled
    stacks: int = STANDARD_ERROR
    anew: Sequence[str] = ()
    crew: int = 1
