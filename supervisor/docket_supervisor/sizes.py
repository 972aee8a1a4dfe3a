"""How many processes: what `--processes`, `--min-processes` and `--max-processes` mean together."""

from __future__ import annotations

from typing import TypedDict

from docket.processors import processors


class Sizes(TypedDict):
    processes: int
    min_processes: int
    max_processes: int | None
    autoscale: bool


def numbers(text: str, fewest: int | None, most: int | None) -> Sizes:
    """`4` is four, and the bounds hold for those who change it by hand. `2..8`, or `auto` with bounds, is a range in
    which the supervisor chooses. ValueError if it is none of these."""
    given = text.strip().lower()
    low, dots, high = given.partition("..")
    if dots:
        if fewest is not None or most is not None:
            raise ValueError(
                f"expected the bounds once, got --processes {given} beside --min-processes or --max-processes"
            )
        return _range(_number(low, text), _number(high, text), start=None)
    if given == "auto" and (fewest is not None or most is not None):
        return _range(fewest or 1, most or max(processors(), fewest or 1), start=processors())
    processes = processors() if given == "auto" else _number(given, text)
    return Sizes(processes=processes, min_processes=fewest or 1, max_processes=most, autoscale=False)


def _range(fewest: int, most: int, start: int | None) -> Sizes:
    processes = fewest if start is None else min(max(start, fewest), most)
    return Sizes(processes=processes, min_processes=fewest, max_processes=most, autoscale=True)


def _number(text: str, whole: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(
            f"expected --processes to be a number, auto or a range such as 2..8, got {whole!r}"
        ) from None
