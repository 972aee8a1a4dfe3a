"""Results and exceptions that are kept outside of Redis, in a key-value store of the user's.

Each lies under a name that holds its key, its generation and its delivery: neither a replaced run that ends last nor a
worker that was given up can overwrite what counts. The record names the delivery that does.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import inspect
from collections.abc import Mapping
from typing import Any, Protocol, SupportsFloat, runtime_checkable

from docket import payload
from docket.errors import ResultStorageFailed

ELSEWHERE = payload.ELSEWHERE
"""What is settled in place of a result that lies in the storage."""

PATIENCE = 30.0
"""Seconds that the storage has for one answer: an execution that waits for it holds its slot."""


@runtime_checkable
class AsyncKeyValue(Protocol):
    """What is asked of a storage: a part of py-key-value's protocol of this name. A `setup()`, if there is one, is
    awaited when the docket is entered."""

    async def get(self, key: str, *, collection: str | None = None) -> Mapping[str, Any] | None: ...

    async def put(
        self,
        key: str,
        value: Mapping[str, Any],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None: ...


def name_of(key: str, generation: int, entry: str) -> str:
    """Where the result of this delivery lies."""
    return f"{key}:{generation}:{entry}"


def refuse_other_than_storage(storage: object) -> None:
    """TypeError with a sentence."""
    missing = [verb for verb in ("get", "put") if not callable(getattr(storage, verb, None))]
    if missing:
        raise TypeError(
            "expected result_storage to be a store with the methods get and put of py-key-value's AsyncKeyValue, "
            f"got {storage!r} without {' and '.join(missing)}"
        )


class ResultStorage:
    """A user's storage, with our names in it, a limit of time, and one kind of error: ResultStorageFailed."""

    def __init__(self, storage: AsyncKeyValue, collection: str) -> None:
        refuse_other_than_storage(storage)
        self.storage = storage
        self.collection = collection

    async def setup(self) -> None:
        """Whatever it raises is the user's to see: nothing has been begun."""
        setup = getattr(self.storage, "setup", None)
        begun = setup() if callable(setup) else None
        if inspect.isawaitable(begun):
            await begun

    async def keep(self, name: str, stored: bytes, ttl_ms: int) -> None:
        # Text, because most stores keep JSON.
        value = {"data": base64.b64encode(stored).decode("ascii")}
        try:
            async with asyncio.timeout(PATIENCE):
                await self.storage.put(name, value, collection=self.collection, ttl=ttl_ms / 1000)
        except Exception as error:
            raise ResultStorageFailed(f"the result storage cannot keep it: {_words(error)}") from error

    async def fetch(self, name: str, patience: float | None = None) -> bytes | None:
        """None if it is not there (any more). `patience`: seconds; TimeoutError if the caller has less than the
        storage needs."""
        short = patience is not None and patience < PATIENCE
        try:
            async with asyncio.timeout(patience if short else PATIENCE):
                value = await self.storage.get(name, collection=self.collection)
        except Exception as error:
            if short and isinstance(error, TimeoutError):
                raise
            raise ResultStorageFailed(f"the result storage cannot give it: {_words(error)}") from error
        if value is None:
            return None
        try:
            return base64.b64decode(value["data"], validate=True)
        except (KeyError, TypeError, binascii.Error) as error:
            raise ResultStorageFailed(
                f"the result storage gave back something else: {value!r:.100}"
            ) from error


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return f"it has not answered within {PATIENCE:.0f} s"
    return payload.describe(error)
