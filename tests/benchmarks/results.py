"""What was measured: one row for each figure, with every repetition, and what ours is held to."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

NOT_PEERS = ("ours", "floor")


@dataclass(frozen=True)
class Target:
    """`times`: ours must be so many times better than pydocket, `best`: than the best peer; `floor`: this part of the
    floor. `most`: ours must not be above, `least`: nor below. Ratios are held; `absolute` is shown beside them."""

    text: str = ""
    times: float | None = None
    most: float | None = None
    least: float | None = None
    best: float | None = None
    floor: float | None = None
    absolute: str = ""

    @property
    def words(self) -> str:
        if self.text:
            return self.text
        parts = [
            f"≥ {factor:g} × {whose}"
            for factor, whose in ((self.times, "pydocket"), (self.best, "best"), (self.floor, "floor"))
            if factor is not None
        ]
        parts += [
            f"{sign} {bound:g}" for sign, bound in (("≤", self.most), ("≥", self.least)) if bound is not None
        ]
        return ", ".join(parts) + f" ({self.absolute})" * bool(self.absolute)

    def is_met(self, row: Row) -> bool | None:
        """None if it cannot be told: ours, or one whom it is compared with, has no figure."""
        ours = row.figure("ours")
        held: list[bool | None] = [
            None if ratio is None else ratio >= factor
            for factor, ratio in (
                (self.times, row.ratio),
                (self.best, row.best_ratio),
                (self.floor, row.over("floor")),
            )
            if factor is not None
        ]
        if self.most is not None:
            held.append(None if ours is None else ours <= self.most)
        if self.least is not None:
            held.append(None if ours is None else ours >= self.least)
        return False if False in held else None if None in held or not held else True


@dataclass
class Row:
    """`values` are by contestant. The figure of a row is the median of its repetitions. `key` finds the goal of the
    row, its bar in the plot and its place on the page. `faults`: who was broken, and how; `absent`: who cannot, and
    why."""

    name: str
    unit: str
    more_is_better: bool = False
    target: Target | None = None
    values: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    remark: str = ""
    key: str = ""
    faults: dict[str, str] = field(default_factory=dict[str, str])
    absent: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, contestant: str, value: float) -> None:
        self.values.setdefault(contestant, []).append(value)

    def fail(self, contestant: str, why: str) -> None:
        """What it was measured as before is not shown: who loses tasks is not fast."""
        self.values.pop(contestant, None)
        self.faults[contestant] = why

    def figure(self, contestant: str) -> float | None:
        values = self.values.get(contestant)
        return statistics.median(values) if values else None

    def over(self, contestant: str) -> float | None:
        """How many times better ours is than this one."""
        ours, theirs = self.figure("ours"), self.figure(contestant)
        if not ours or not theirs:
            return None
        return ours / theirs if self.more_is_better else theirs / ours

    @property
    def best(self) -> str | None:
        """The peer with the best figure, pydocket among them."""
        figures = {each: self.figure(each) for each in self.values if each not in NOT_PEERS}
        known = {each: value for each, value in figures.items() if value is not None}
        if not known:
            return None
        return (max if self.more_is_better else min)(known, key=lambda each: known[each])

    @property
    def best_ratio(self) -> float | None:
        return self.over(self.best) if self.best else None

    @property
    def ratio(self) -> float | None:
        """How many times better than pydocket."""
        return self.over("pydocket")

    @property
    def met(self) -> bool | None:
        return None if self.target is None else self.target.is_met(self)


def percentile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
