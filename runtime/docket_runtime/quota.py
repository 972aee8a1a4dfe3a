"""How often some keys may run: what `run_at_most` asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


class Quota:
    """Counts the runs of the keys that have a number; the others run as often as they are due."""

    def __init__(self, most: Mapping[str, int] | None = None) -> None:
        self._most = dict(most or {})
        self._runs: Counter[str] = Counter()

    def is_used_up(self, key: str) -> bool:
        most = self._most.get(key)
        return most is not None and self._runs[key] >= most

    def refusal(self, key: str) -> str:
        most = self._most[key]
        return f"it has run {most} times, and was to run at most that often"

    def begun(self, key: str) -> None:
        if key in self._most:
            self._runs[key] += 1

    def put_off(self, key: str) -> None:
        """It did not run after all."""
        if key in self._most:
            self._runs[key] -= 1
