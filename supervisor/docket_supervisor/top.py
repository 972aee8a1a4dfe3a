"""The status in a terminal, looked at again and again, with what has been done in between as a line of bars."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from docket import clock
from docket_supervisor.table import foot, headline, slots

_BARS = " ▁▂▃▄▅▆▇█"
_SAMPLES = 60


class Throughput:
    """Executions that ended per second, between one look and the next."""

    def __init__(self) -> None:
        self._rates: deque[float] = deque(maxlen=_SAMPLES)
        self._last: tuple[float, int, int] | None = None

    def look(self, status: dict[str, Any], now: float) -> None:
        pid, totals = status["supervisor"]["pid"], status["totals"]
        ended = totals["completed"] + totals["failed"]
        # Another supervisor counts from zero.
        if self._last is not None and self._last[2] == pid and now > self._last[0]:
            self._rates.append(max(0, ended - self._last[1]) / (now - self._last[0]))
        self._last = (now, ended, pid)

    def __str__(self) -> str:
        if not self._rates:
            return "throughput: –"
        most = max(self._rates)
        bars = "".join(
            _BARS[round(rate / most * (len(_BARS) - 1))] if most else _BARS[0] for rate in self._rates
        )
        return f"throughput: {self._rates[-1]:.1f}/s, {most:.1f}/s at most  {bars}"


def watch(look: Callable[[], dict[str, Any]], interval: float, console: Console | None = None) -> None:
    """Until Ctrl-C, or until `look` raises. Where there is no terminal, once."""
    console = console or Console()
    pictures = _pictures(look)
    if not console.is_terminal:
        console.print(next(pictures))
        return
    try:
        with Live(next(pictures), console=console, screen=True, auto_refresh=False) as live:
            for picture in pictures:
                live.update(picture, refresh=True)
                time.sleep(interval)
    except KeyboardInterrupt:
        return


def _pictures(look: Callable[[], dict[str, Any]]) -> Iterator[RenderableType]:
    throughput = Throughput()
    while True:
        status = look()
        throughput.look(status, clock.monotonic())
        yield Group(headline(status), slots(status), foot(status), Text(str(throughput)))
