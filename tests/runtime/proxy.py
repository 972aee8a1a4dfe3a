"""Stands between a client and Redis and loses replies: the server has done it, and nobody hears of that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

from docket.store.scripts import Script


class LossyProxy:
    """A Unix socket in front of another. `lose(script)` arms it for the next call of that script."""

    def __init__(self, folder: Path, server: str) -> None:
        self.socket_path = str(folder / "proxy.sock")
        self.lost = 0
        self.seen: list[bytes] = []
        self._server = server
        self._marks: list[tuple[bytes, Callable[[], Awaitable[object]] | None]] = []
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"unix://{self.socket_path}"

    def lose(
        self,
        script: Script,
        times: int = 1,
        *,
        before_the_drop: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """The replies to the next `times` calls of `script` are dropped together with their connections."""
        self._marks += [(script.sha.encode(), before_the_drop)] * times

    @property
    def armed(self) -> bool:
        return bool(self._marks)

    async def __aenter__(self) -> Self:
        self._listening = await asyncio.start_unix_server(self._serve, self.socket_path, limit=1 << 26)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._listening.close()
        self.drop_all()

    def drop_all(self) -> None:
        """Every connection breaks."""
        for writer in tuple(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(self._server, limit=1 << 26)
        self._writers |= {writer, to_server}
        losing = asyncio.Event()
        back = asyncio.create_task(self._back(from_server, writer, losing))
        try:
            while data := await reader.read(1 << 20):
                mark = next((m for m in self._marks if m[0] in data), None)
                if mark is not None:
                    self._marks.remove(mark)
                    losing.set()
                to_server.write(data)
                await to_server.drain()
                if mark is not None:
                    await back
                    if mark[1] is not None:
                        await mark[1]()
                    self.lost += 1
                    return
        except ConnectionError:
            pass
        finally:
            back.cancel()
            self._writers -= {writer, to_server}
            writer.close()
            to_server.close()

    async def _back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event
    ) -> None:
        while data := await reader.read(1 << 20):
            if losing.is_set():
                return
            writer.write(data)
            await writer.drain()
        writer.close()
