"""HTTP as it is spoken here: two codes, one answer, and nobody can keep the steward busy."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from docket_supervisor import answering
from docket_supervisor.answering import MOST_CONNECTIONS, Answer, Door, Request, parse
from docket_supervisor.listening import CannotListen, listening


@pytest.mark.parametrize(
    ("head", "request_"),
    [
        (b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n", Request("GET", "/ready")),
        (
            b"GET /metrics?a=b HTTP/1.0\r\nACCEPT: text/plain\r\n\r\n",
            Request("GET", "/metrics", "text/plain"),
        ),
        (b"HEAD / HTTP/1.1\r\n\r\n", Request("HEAD", "/")),
        (b"GET ready HTTP/1.1\r\n\r\n", None),
        (b"GET /ready\r\n\r\n", None),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", None),
        (b"\r\n\r\n", None),
    ],
)
def test_what_is_a_request(head: bytes, request_: Request | None) -> None:
    assert parse(head) == request_


async def answer(request: Request) -> Answer:
    if request.path == "/bug":
        raise RuntimeError("a bug")
    return Answer.text(request.path == "/good", f"you asked for {request.path}")


@pytest.fixture
async def port() -> AsyncIterator[int]:
    listener = listening("127.0.0.1", 0)
    door = Door(listener, answer)
    await door.open()
    yield listener.getsockname()[1]
    door.close()


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (b"GET /good HTTP/1.1\r\n\r\n", b"200 OK", b"you asked for /good\n"),
        (b"GET /bad HTTP/1.1\r\n\r\n", b"503 Service Unavailable", b"you asked for /bad\n"),
        (b"HEAD /good HTTP/1.1\r\n\r\n", b"200 OK", b""),
        (b"POST /good HTTP/1.1\r\n\r\n", b"503 Service Unavailable", b"only GET and HEAD are answered\n"),
        (b"nonsense\r\n\r\n", b"503 Service Unavailable", b"this is no HTTP request\n"),
        (b"GET /bug HTTP/1.1\r\n\r\n", b"503 Service Unavailable", b"the answer failed; see the log\n"),
    ],
)
async def test_there_are_two_codes(port: int, request_: bytes, status: bytes, body: bytes):
    head, _, found = (await ask(port, request_)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status + b"\r\n") and found == body
    assert b"Connection: close" in head


async def test_a_request_may_come_in_pieces(port: int):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in (b"GET /go", b"od HTTP/1.1\r", b"\nHost: x\r\n", b"\r\n"):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.01)
    assert b"200 OK" in await asyncio.wait_for(reader.read(), 10)
    writer.close()


async def test_an_endless_request_is_cut_off(port: int):
    assert await ask(port, b"GET /" + b"x" * answering.LONGEST_REQUEST * 4) == b""


async def test_whoever_says_nothing_is_not_waited_for(port: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(answering, "PATIENCE", 0.1)
    assert await ask(port, b"GET /good") == b""


async def test_the_connections_are_limited_and_free_again_afterwards(
    port: int, monkeypatch: pytest.MonkeyPatch
):
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_CONNECTIONS)]
    await asyncio.sleep(0.05)
    assert await ask(port, b"GET /good HTTP/1.1\r\n\r\n") == b""
    for _, writer in silent:
        writer.close()
    for _ in range(100):
        if await ask(port, b"GET /good HTTP/1.1\r\n\r\n"):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the connections did not become free")


async def test_a_closed_door_leaves_the_port_to_others():
    listener = listening("127.0.0.1", 0)
    port = listener.getsockname()[1]
    door = Door(listener, answer)
    await door.open()
    door.close()
    listening("127.0.0.1", port).close()


def test_a_taken_port_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docket_supervisor.listening.PATIENCE", 0.1)
    taken = listening("127.0.0.1", 0)
    port = taken.getsockname()[1]
    with pytest.raises(CannotListen, match=f"cannot answer for health at 127.0.0.1, port {port}: Address"):
        listening("127.0.0.1", port)
    taken.close()


def test_an_address_that_is_none_is_told_in_a_sentence() -> None:
    with pytest.raises(CannotListen, match=r"cannot answer for health at no\.such\.host\.invalid"):
        listening("no.such.host.invalid", 0)


def test_ipv6_is_spoken_too() -> None:
    if socket.has_ipv6:
        listening("::1", 0).close()
