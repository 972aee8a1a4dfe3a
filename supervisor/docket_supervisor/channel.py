"""Messages over a socket pair between two processes of ours, without ever waiting for the other side."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial

from docket_supervisor.forking import Closeable, fork
from docket_supervisor.messages import ImportFailed, Message, PhaseChanged, decode, encode

_CHUNK = 65536


class Channel:
    """One end. The supervisor must not hang because a steward does: what cannot be sent now is kept for `flush`."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._outbox = bytearray()
        self._inbox = bytearray()
        self.ended = False

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        ours, theirs = socket.socketpair()
        return cls(ours), cls(theirs)

    @classmethod
    def at(cls, descriptor: int) -> Channel:
        """The end that an earlier supervisor had, which this one has taken the place of."""
        return cls(socket.socket(fileno=descriptor))

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    @property
    def still(self) -> bool:
        """No message is on its way through us, in part or in whole."""
        return not self._outbox and not self._inbox

    @property
    def unsent(self) -> bool:
        return bool(self._outbox)

    def send(self, message: Message) -> None:
        self._outbox += encode(message)
        self.flush()

    def flush(self) -> None:
        """As much as the other side takes now. A side that has died takes nothing: its end is seen by `receive`."""
        while self._outbox:
            try:
                sent = self._socket.send(self._outbox)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._outbox.clear()
                return
            del self._outbox[:sent]

    def receive(self) -> Iterator[Message]:
        """Everything that has arrived; afterwards `ended` tells whether more can come."""
        while not self.ended:
            try:
                chunk = self._socket.recv(_CHUNK)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                chunk = b""
            self._inbox += chunk
            self.ended = not chunk
        *lines, rest = bytes(self._inbox).split(b"\n")
        self._inbox = bytearray(rest)
        for line in lines:
            yield decode(line)


def fork_with_channel(main: Callable[[Channel], int], *, closing: Iterable[Closeable]) -> tuple[int, Channel]:
    """The pid of a new child that runs `main` with its end of a channel, and our end. OSError leaves nothing open."""
    ours, theirs = Channel.pair()
    try:
        return fork(partial(main, theirs), closing=[*closing, ours]), ours
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()


class Notices:
    """Short messages from all workers to the supervisor: datagrams, so that writers cannot interleave.

    They only wake the supervisor up: the board says what is true, and a notice that does not fit is dropped.
    """

    def __init__(self, ends: tuple[int, int] | None = None) -> None:
        """`ends`: those of an earlier supervisor, which this one has taken the place of."""
        if ends is None:
            self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        else:
            self._reader, self._writer = (socket.socket(fileno=end) for end in ends)
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        return self._reader.fileno()

    @property
    def ends(self) -> tuple[int, int]:
        return self._reader.fileno(), self._writer.fileno()

    def close(self) -> None:
        """Let go of the supervisor's end: what a child does after the fork."""
        self._reader.close()

    def tell(self, message: PhaseChanged | ImportFailed) -> None:
        with suppress(OSError):
            self._writer.send(encode(message))

    def receive(self) -> Iterator[Message]:
        while True:
            try:
                yield decode(self._reader.recv(_CHUNK))
            except OSError:
                return
