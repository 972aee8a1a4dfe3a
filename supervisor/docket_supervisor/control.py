"""The control socket: who connects asks for one thing, in a line of JSON, and is answered in another.

`{"verb": "scale", "to": 3, "wait": true}` is answered by `{"ok": true, …}` or `{"ok": false, "reason": "…"}`. Nobody
who connects can make the supervisor wait: what cannot be read or written now is left for later, and bounded.
"""

from __future__ import annotations

import json
import logging
import math
import os
import selectors
import socket
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from docket import clock
from docket_supervisor import sockets
from docket_supervisor.estate import Guest, Reception
from docket_supervisor.taken import Taken

logger = logging.getLogger("docket.supervisor")

_LONGEST_REQUEST = 65536
_MOST_CONVERSATIONS = 32
_PATIENCE = 10.0
"""Seconds in which who connected must have asked."""
_LOOK_AGAIN = 0.1


@dataclass(frozen=True)
class Refused:
    reason: str


@dataclass(frozen=True)
class Accepted:
    """`done` is asked from then on if the other side waits: None: not yet; `""`: done; else why it will never be.
    `held`: the answer is of no use before, so everybody waits. `more` is asked for when it is sent."""

    more: Callable[[], Mapping[str, Any]] = dict
    done: Callable[[], str | None] = lambda: ""
    held: bool = False


Answer = Refused | Accepted
Heed = Callable[[Mapping[str, Any]], Answer]


class Control:
    """Listens on a path that only this user may connect to (mode 0600)."""

    def __init__(self, path: str, obey: Heed, go_on: Heed | None = None) -> None:
        """`go_on` answers what a former program has accepted."""
        self.path = path
        self._obey = obey
        self._go_on = go_on or obey
        self._listener: socket.socket | None = None
        self._file = (0, 0)
        self._selector: selectors.BaseSelector | None = None
        self._conversations: list[_Conversation] = []

    def adopt(self, former: Reception) -> None:
        """The socket of the program in whose place we are, where it is, and those who have connected to it."""
        self.path, self._file = former.path, former.file
        self._listener = socket.socket(fileno=former.listener)
        self._listener.setblocking(False)
        for guest in former.guests:
            connection = socket.socket(fileno=guest.descriptor)
            self._conversations.append(_Conversation(connection, self._obey, self._go_on, guest))

    @property
    def reception(self) -> Reception | None:
        """For the next program. Who connects meanwhile waits in the listener's backlog, and what is written meanwhile
        in the connections: so nobody has to be answered first, nor told that there is nobody."""
        if self._listener is None:
            return None
        guests = tuple(each.guest for each in self._conversations if not each.over)
        return Reception(self.path, self._listener.fileno(), self._file, guests)

    def claim(self) -> None:
        """Taken if somebody listens there, or if it is something else than a socket. OSError if there can be none."""
        if self._listener is not None:
            if self._is_ours():
                return
            # Its file has been removed: nobody would find us any more.
            self._listener.close()
            self._listener = None
        self._make_room()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Not chmod afterwards: for a moment everybody could connect.
        before = os.umask(0o177)
        try:
            with sockets.address(self.path) as name:
                listener.bind(name)
            listener.listen(16)
            self._file = _file_at(self.path)
        except BaseException:
            listener.close()
            raise
        finally:
            os.umask(before)
        listener.setblocking(False)
        self._listener = listener

    def _make_room(self) -> None:
        """A socket whose supervisor was killed is in the way of the next one, and of nobody else."""
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise Taken(
                f"expected the control socket {self.path} to be free, got something that is no socket"
            )
        if (connection := sockets.connected(self.path)) is not None:
            connection.close()
            raise Taken(f"the control socket {self.path} is in use by a supervisor that is running")
        os.unlink(self.path)

    def _is_ours(self) -> bool:
        """Somebody may have removed the file, and another have made one there."""
        try:
            return _file_at(self.path) == self._file
        except OSError:
            return False

    def open(self, selector: selectors.BaseSelector) -> None:
        """From now on it is answered, whenever the selector says so."""
        self._selector = selector
        for each in self._conversations:
            each.open(selector)
        if self._listener is not None:
            selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """What a forked child does: the path stays."""
        if self._listener is not None:
            self._listener.close()
        for each in self._conversations:
            each.connection.close()

    def release(self, code: int) -> None:
        """Those who wait are told the exit code; the path is free."""
        for each in self._conversations:
            each.reply({"ok": True, "pid": os.getpid(), "exit_code": code})
            each.hand_out()
        if self._listener is not None:
            if self._is_ours():
                with suppress(OSError):
                    os.unlink(self.path)
            self._listener.close()
            self._listener = None

    def turn(self, now: float) -> float:
        """Answers those who waited for something that has happened; returns when to be called again."""
        for each in list(self._conversations):
            each.look(now)
            if each.over:
                self._conversations.remove(each)
        return now + _LOOK_AGAIN if self._conversations else math.inf

    def _accept(self) -> None:
        assert self._listener is not None and self._selector is not None
        with suppress(OSError):
            connection, _ = self._listener.accept()
            if len(self._conversations) >= _MOST_CONVERSATIONS:
                connection.close()
                return
            conversation = _Conversation(connection, self._obey, self._go_on)
            conversation.open(self._selector)
            self._conversations.append(conversation)


def _file_at(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


class _Conversation:
    """One request and its answer; then it is over, as it is when the other side goes away."""

    def __init__(
        self,
        connection: socket.socket,
        obey: Heed,
        go_on: Heed,
        guest: Guest | None = None,
    ) -> None:
        """`guest`: as whom the former program knew the other side."""
        connection.setblocking(False)
        self.connection = connection
        self._selector: selectors.BaseSelector | None = None
        self._obey = obey
        self._go_on = go_on
        self._inbox = bytearray(guest.heard.encode("latin-1") if guest else b"")
        self._outbox = bytearray(guest.untold.encode("latin-1") if guest else b"")
        self._answer: Accepted | None = None
        self._answered = bool(self._outbox)
        # It was asked as soon as it was heard.
        self._was_accepted = b"\n" in self._inbox and not self._answered
        self._give_up_at = clock.monotonic() + _PATIENCE
        self.over = False

    def open(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        selector.register(self.connection, selectors.EVENT_READ, self._hear)

    @property
    def guest(self) -> Guest:
        heard, untold = self._inbox.decode("latin-1"), self._outbox.decode("latin-1")
        return Guest(self.connection.fileno(), heard, untold)

    def look(self, now: float) -> None:
        if self._was_accepted:
            self._was_accepted = False
            self._act(self._go_on)
        if self._answer is not None and not self._answered:
            outcome = self._answer.done()
            if outcome is not None:
                self.reply(
                    {"ok": False, "reason": outcome} if outcome else {"ok": True, **self._answer.more()}
                )
        if self._outbox:
            self.hand_out()
        elif self._answer is None and now >= self._give_up_at:
            self._end()

    def reply(self, answer: Mapping[str, Any]) -> None:
        if not self._answered:
            self._answered = True
            self._outbox += json.dumps(answer).encode() + b"\n"

    def hand_out(self) -> None:
        """As much as the other side takes now."""
        try:
            while self._outbox:
                del self._outbox[: self.connection.send(self._outbox)]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end()
            return
        if self._answered:
            self._end()

    def _end(self) -> None:
        if not self.over:
            self.over = True
            if self._selector is not None:
                self._selector.unregister(self.connection)
            self.connection.close()

    def _hear(self) -> None:
        try:
            chunk = self.connection.recv(_LONGEST_REQUEST)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._end()
            return
        self._inbox += chunk
        if len(self._inbox) > _LONGEST_REQUEST:
            self._end()
        elif b"\n" in self._inbox and self._answer is None and not self._answered:
            self._act(self._obey)
            if self._outbox:
                self.hand_out()

    def _act(self, heed: Heed) -> None:
        try:
            request: object = json.loads(bytes(self._inbox.partition(b"\n")[0]))
        except ValueError:
            request = None
        if not isinstance(request, dict):
            self.reply({"ok": False, "reason": "expected one line with a JSON object"})
            return
        asked = cast("dict[str, Any]", request)
        answer = heed(asked)
        match answer:
            case Refused(reason):
                self.reply({"ok": False, "reason": reason})
            case Accepted(more):
                if (answer.held and answer.done() is None) or (not answer.held and asked.get("wait")):
                    self._answer = answer
                else:
                    self.reply({"ok": True, **more()})
