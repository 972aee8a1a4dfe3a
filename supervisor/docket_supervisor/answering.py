"""HTTP, as much of it as probes and Prometheus speak: one request, one answer, and the connection is closed.

No framework: every line of one would be loaded into the process that the leases of all workers depend on.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

logger = logging.getLogger("docket.steward")

MOST_CONNECTIONS = 64
LONGEST_REQUEST = 16_384
PATIENCE = 5.0
"""Seconds for a whole conversation: whoever is slower than that holds a connection for nothing."""

_REASONS = {200: "OK", 503: "Service Unavailable"}


@dataclass(frozen=True)
class Answer:
    """`good` is 200, else 503. There is no third code: whoever asks wants to know whether all is well."""

    good: bool
    body: bytes
    content_type: str = "text/plain; charset=utf-8"

    @classmethod
    def text(cls, good: bool, sentence: str) -> Answer:
        return cls(good, f"{sentence}\n".encode())


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    accept: str = ""


class Door:
    """Answers on a socket that listens already."""

    def __init__(self, listener: socket.socket, answer: Callable[[Request], Awaitable[Answer]]) -> None:
        self._listener = listener
        self._answer = answer
        self._conversations: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._arrived, sock=self._listener, limit=LONGEST_REQUEST)

    def close(self) -> None:
        """Nobody is let in any more, and another process may listen on the port."""
        if self._server is not None:
            self._server.close()
        self._listener.close()
        for conversation in self._conversations:
            conversation.cancel()

    def _arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._conversations) >= MOST_CONNECTIONS:
            writer.close()
            return
        # A task of ours: asyncio's own for a connection complains loudly when it is cancelled (Python 3.11).
        conversation = asyncio.get_running_loop().create_task(self._converse(reader, writer))
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._serve(reader, writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # of no interest to anybody but the one who asked so
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        request = parse(head)
        answer = await self._respond(request)
        status = 200 if answer.good else 503
        lines = (
            f"HTTP/1.1 {status} {_REASONS[status]}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(answer.body)}",
            "Cache-Control: no-store",
            "Connection: close",
        )
        writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
        if request is None or request.method != "HEAD":
            writer.write(answer.body)
        await writer.drain()

    async def _respond(self, request: Request | None) -> Answer:
        if request is None:
            return Answer.text(False, "this is no HTTP request")
        if request.method not in ("GET", "HEAD"):
            return Answer.text(False, "only GET and HEAD are answered")
        try:
            return await self._answer(request)
        except Exception:
            # A border: whatever is wrong with one answer, the steward has leases to renew.
            logger.exception("could not answer %s", request.path)
            return Answer.text(False, "the answer failed; see the log")


def parse(head: bytes) -> Request | None:
    """None if it is no HTTP/1 request."""
    first, *headers = head.decode("latin-1").split("\r\n")
    method, _, rest = first.partition(" ")
    target, _, version = rest.rpartition(" ")
    if not (method and target.startswith("/") and version.startswith("HTTP/1.")):
        return None
    accept = ""
    for header in headers:
        name, _, value = header.partition(":")
        if name.strip().lower() == "accept":
            accept = value.strip()
    return Request(method, target.partition("?")[0], accept)
