"""The connections of a docket that is split: whatever is asked goes to where its partition lives.

On a single server that is the same for all of them. On a cluster each partition may live on another node, move to yet
another, and be away while the others are there; so each has a store of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from docket.store.asynchronous import AsyncPerformer, AsyncStore
from docket.store.attempts import SharedAttempt
from docket.store.blocking import BlockingPerformer, BlockingStore, Listening
from docket.store.connect import Address, address_of
from docket.store.keys import Keys
from docket.store.listener import Subscription
from docket.store.requests import Commands, Operation
from docket.store.scripts import Call

Agree = Callable[[], Operation[None]]
"""What is asked before anything else: whether the ledger is split like this."""

S = TypeVar("S")


def stores_of(
    whole: S, parts: Sequence[Keys], address: Address, make: Callable[[Address], S]
) -> dict[str, S]:
    """One for each partition, by the hash tag that its names begin with."""
    return {
        _tag(keys.prefix): whole if (lives_at := address_of(address, keys)) is address else make(lives_at)
        for keys in parts
    }


def _tag(name: str) -> str:
    return name.partition("}")[0]


def _store_for(request: Call | Commands, stores: Mapping[str, S], otherwise: S) -> S:
    """All keys of one request lie in one partition. The first word may be a verb of its own (XINFO GROUPS);
    what has no key at all is about any connection."""
    if isinstance(request, Call):
        return stores.get(_tag(request.stream), otherwise)
    words = (str(word) for command in request.commands for word in command[1:3])
    return next((stores[tag] for word in words if (tag := _tag(word)) in stores), otherwise)


class AsyncScattered(AsyncPerformer):
    """`whole`: the store of what concerns the docket as a whole; closed with the others, of which it may be one."""

    def __init__(self, whole: AsyncStore, stores: Mapping[str, AsyncStore], agree: Agree) -> None:
        self.address = whole.address
        self.whole, self._stores, self._agree = whole, stores, agree
        self._asking, self._agreed = SharedAttempt(self._ask_whether_all_agree), False

    def at(self, keys: Keys) -> AsyncStore:
        """That of one partition."""
        return self._stores[_tag(keys.prefix)]

    async def agree(self) -> None:
        """PartitionsDiffer if the ledger is split otherwise."""
        if not self._agreed:
            await self._asking.outcome()

    async def _ask_whether_all_agree(self) -> None:
        await self.whole.perform(self._agree())
        self._agreed = True

    async def ask(self, request: Call | Commands) -> Any:
        await self.agree()
        return await _store_for(request, self._stores, self.whole).ask(request)

    async def subscribe(self, channels: tuple[str, ...]) -> Subscription:
        return await self._stores[_tag(channels[0])].subscribe(channels)

    def plain_client(self) -> Any:
        return self.whole.plain_client()

    async def close(self) -> None:
        await self._asking.close()
        for store in {id(each): each for each in (*self._stores.values(), self.whole)}.values():
            await store.close()


class BlockingScattered(BlockingPerformer):
    """The same for threads."""

    def __init__(self, whole: BlockingStore, stores: Mapping[str, BlockingStore], agree: Agree) -> None:
        self.address = whole.address
        self.whole, self._stores, self._agree = whole, stores, agree
        self._agreed = False

    def agree(self) -> None:
        """PartitionsDiffer if the ledger is split otherwise."""
        # Several threads may ask, and get the same answer; in a line they would wait for each other's failures.
        if not self._agreed:
            self.whole.perform(self._agree())
            self._agreed = True

    def ask(self, request: Call | Commands) -> Any:
        self.agree()
        return _store_for(request, self._stores, self.whole).ask(request)

    def listen(self, channels: tuple[str, ...]) -> Listening:
        return self._stores[_tag(channels[0])].listen(channels)

    def plain_client(self) -> Any:
        return self.whole.plain_client()

    def close(self) -> None:
        for store in {id(each): each for each in (*self._stores.values(), self.whole)}.values():
            store.close()
