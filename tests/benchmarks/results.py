"""What was measured: one row for each figure, with every repetition."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Target:
    """`times`: ours must be so many times better than pydocket. `most`: ours must not be above. `least`: nor below."""

    text: str
    times: float | None = None
    most: float | None = None
    least: float | None = None

    def is_met(self, ours: float | None, ratio: float | None) -> bool | None:
        """None if it cannot be told."""
        if self.times is not None:
            return None if ratio is None else ratio >= self.times
        if ours is None:
            return None
        return (self.most is None or ours <= self.most) and (self.least is None or ours >= self.least)


@dataclass
class Row:
    """`values` are by contestant. The figure of a row is the median of its repetitions."""

    name: str
    unit: str
    more_is_better: bool = False
    target: Target | None = None
    values: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    remark: str = ""

    def add(self, contestant: str, value: float) -> None:
        self.values.setdefault(contestant, []).append(value)

    def figure(self, contestant: str) -> float | None:
        values = self.values.get(contestant)
        return statistics.median(values) if values else None

    @property
    def ratio(self) -> float | None:
        """How many times better than pydocket."""
        ours, theirs = self.figure("ours"), self.figure("pydocket")
        if not ours or not theirs:
            return None
        return ours / theirs if self.more_is_better else theirs / ours

    @property
    def met(self) -> bool | None:
        return None if self.target is None else self.target.is_met(self.figure("ours"), self.ratio)


def percentile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
