"""The parts that a docket is split into: each is a ledger of its own, and each key belongs to one of them for ever."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from docket.errors import PartitionsDiffer
from docket.settings import DocketSettings, refuse_strangers
from docket.store import scripts
from docket.store.connect import keys_of, partitions_of
from docket.store.keys import Keys, place_of
from docket.store.requests import Operation, read
from docket.strikelist import StrikeList


@dataclass(frozen=True, slots=True)
class Partition:
    """`strikes`: the rules as this part of the ledger names them."""

    number: int
    keys: Keys
    strikes: StrikeList


@dataclass(frozen=True, slots=True)
class Partitions:
    """All parts of one docket; a single one, with the names of the docket itself, if it is not split."""

    settings: DocketSettings
    whole: Keys
    parts: tuple[Partition, ...]
    all_strikes: StrikeList = field(repr=False)

    @property
    def split(self) -> bool:
        return len(self.parts) > 1

    def of(self, key: str) -> Partition:
        """Where the execution of this key lies."""
        parts = self.parts
        return parts[place_of(key, len(parts)) if len(parts) > 1 else 0]

    def strikes(self) -> StrikeList:
        """The rules in effect in any part, each once."""
        if not self.split:
            return self.parts[0].strikes
        self.all_strikes.load(())
        for part in self.parts:
            for rule in part.strikes:
                self.all_strikes.update(rule)
        return self.all_strikes

    def agree(self) -> Operation[None]:
        """The ledger is split as these are; an unused one is from now on. PartitionsDiffer if it is not."""
        if not self.split:
            yield from self.refuse_if_split()
            return
        there = yield scripts.split(self.whole, len(self.parts))
        if int(there) != len(self.parts):
            raise differ(self.settings.name, int(there), len(self.parts))

    def refuse_if_split(self) -> Operation[None]:
        """PartitionsDiffer if what was looked for in an undivided docket may lie in a partition."""
        if self.split:
            return
        there = yield from read("GET", self.whole.partitions)
        if there is not None:
            raise differ(self.settings.name, int(there), 1)


def partitions(settings: DocketSettings, strikes: StrikeList) -> Partitions:
    """`strikes`: what the rules of a docket that is not split are known by."""
    whole = keys_of(settings.name, settings.url)
    names = partitions_of(settings.name, settings.url, settings.partitions)
    if len(names) == 1:
        return Partitions(settings, whole, (Partition(0, whole, strikes),), strikes)
    parts = tuple(Partition(number, keys, StrikeList(strikes.door)) for number, keys in enumerate(names))
    for part in parts[1:]:
        part.strikes.is_counted = False
    return Partitions(settings, whole, parts, strikes)


def served(all_of_them: Partitions, numbers: Iterable[int] | None) -> Sequence[Partition]:
    """Those with these numbers, or all. ValueError if there are none such."""
    if numbers is None:
        return all_of_them.parts
    wanted = sorted(set(numbers))
    refuse_strangers(wanted, len(all_of_them.parts))
    return [all_of_them.parts[number] for number in wanted]


def differ(name: str, there: int, here: int) -> PartitionsDiffer:
    described = f"is split into {there} partitions" if there > 1 else "is not split (1 partition)"
    return PartitionsDiffer(
        f"the docket {name!r} {described} in Redis, and was opened with partitions={here}: "
        "it would look for keys where they are not"
    )
