"""The redis-servers of the tests are those that `chaos` breaks."""

from __future__ import annotations

from chaos.server import RedisServer

__all__ = ["RedisServer"]
