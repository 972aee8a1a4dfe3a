"""A hold on the server behind a `memory://` or `embedded://` URL, so that it outlives every worker."""

from __future__ import annotations

import importlib
from typing import Protocol

from docket.errors import BadURL, ConnectionFailed


class Server(Protocol):
    def release(self) -> None: ...


def hold_server(url: str) -> Server | None:
    """None for any other URL. The supervisor calls it before the first fork: a server started by a worker would end
    with it. What is wrong with the URL or the server is told by the steward, like everything about Redis.
    """
    if not url.startswith(("memory:", "embedded:")):
        return None
    try:
        return importlib.import_module("docket.store.servers").acquire(url)
    except (BadURL, ConnectionFailed):
        return None
