"""Stands between clients and Redis: breaks their connections, and loses replies to what the server has done."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from docket.store.scripts import Script


class LossyProxy:
    """A Unix socket in front of a server's, or of its host and port. `lose(script)` arms it for the next call of that
    script."""

    def __init__(self, folder: Path, server: str | tuple[str, int]) -> None:
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
        self._listening = await self._listen()
        return self

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._serve, self.socket_path, limit=1 << 26)

    async def __aexit__(self, *exc_info: object) -> None:
        self._listening.close()
        self.drop_all()

    def drop_all(self) -> None:
        """Every connection breaks."""
        for writer in tuple(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await self._reach()
        except OSError:  # the server is away, and so are we
            writer.close()
            return
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

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._server, str):
            return await asyncio.open_unix_connection(self._server, limit=1 << 26)
        return await asyncio.open_connection(*self._server, limit=1 << 26)

    async def _back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event
    ) -> None:
        try:
            while data := await reader.read(1 << 20):
                if losing.is_set():
                    return
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()


class TCPProxy(LossyProxy):
    """The same on a port of this machine, working in a thread of its own: for those who experiment without a loop."""

    def __init__(self, url: str) -> None:
        """`url`: of the server, redis:// or unix://."""
        self._parts = urlsplit(url)
        is_path = self._parts.scheme == "unix"
        address = (self._parts.hostname or "127.0.0.1", self._parts.port or 6379)
        super().__init__(Path(), self._parts.path if is_path else address)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 26)

    @property
    def url(self) -> str:
        """Like the server's, but for the address."""
        user, at, _ = self._parts.netloc.rpartition("@")
        port = self._listening.sockets[0].getsockname()[1]
        path = "" if self._parts.scheme == "unix" else self._parts.path
        return urlunsplit(("redis", f"{user}{at}127.0.0.1:{port}", path, self._parts.query, ""))

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.__aenter__(), self._loop).result(10)
        return self

    def __exit__(self, *exc_info: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _end(self) -> None:
        await self.__aexit__()
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    def cut(self, ports: Collection[int]) -> int:
        """Breaks the connections that come from these ports of this machine. Returns how many there were."""

        async def cut() -> int:
            peers = [(each, each.get_extra_info("peername")) for each in self._writers]
            coming = [each for each, peer in peers if isinstance(peer, tuple) and peer[1] in ports]
            for writer in coming:
                writer.transport.abort()
            return len(coming)

        return asyncio.run_coroutine_threadsafe(cut(), self._loop).result(10)
