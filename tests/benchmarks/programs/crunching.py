"""Tasks that do nothing but compute: 10 ms of CPU each, on a thread or on the loop."""

from __future__ import annotations

import time

from marks import Marks

marks = Marks()
CPU = 0.010


def _compute() -> None:
    until = time.thread_time() + CPU
    while time.thread_time() < until:
        pass


def crunch(number: int) -> None:
    marks.mark(number)
    _compute()


async def crunch_on_the_loop(number: int) -> None:
    marks.mark(number)
    _compute()


tasks = [crunch, crunch_on_the_loop]
