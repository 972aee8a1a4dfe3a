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


class Control:
    """Listens on a path that only this user may connect to (mode 0600)."""

    def __init__(self, path: str, obey: Callable[[Mapping[str, Any]], Answer]) -> None:
        self.path = path
        self._obey = obey
        self._listener: socket.socket | None = None
        self._selector: selectors.BaseSelector | None = None
        self._conversations: list[_Conversation] = []

    def claim(self) -> None:
        """Taken if somebody listens there, or if it is something else than a socket. OSError if there can be none."""
        self._make_room()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Not chmod afterwards: for a moment everybody could connect.
        before = os.umask(0o177)
        try:
            with sockets.address(self.path) as name:
                listener.bind(name)
            listener.listen(16)
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

    def open(self, selector: selectors.BaseSelector) -> None:
        """From now on it is answered, whenever the selector says so."""
        self._selector = selector
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
            self._listener.close()
            self._listener = None
            with suppress(OSError):
                os.unlink(self.path)

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
            self._conversations.append(_Conversation(connection, self._selector, self._obey))


class _Conversation:
    """One request and its answer; then it is over, as it is when the other side goes away."""

    def __init__(
        self,
        connection: socket.socket,
        selector: selectors.BaseSelector,
        obey: Callable[[Mapping[str, Any]], Answer],
    ) -> None:
        connection.setblocking(False)
        self.connection = connection
        self._selector = selector
        self._obey = obey
        self._inbox = bytearray()
        self._outbox = bytearray()
        self._answer: Accepted | None = None
        self._answered = False
        self._give_up_at = clock.monotonic() + _PATIENCE
        self.over = False
        selector.register(connection, selectors.EVENT_READ, self._hear)

    def look(self, now: float) -> None:
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
            self._act(bytes(self._inbox.partition(b"\n")[0]))
            if self._outbox:
                self.hand_out()

    def _act(self, line: bytes) -> None:
        try:
            request: object = json.loads(line)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            self.reply({"ok": False, "reason": "expected one line with a JSON object"})
            return
        asked = cast("dict[str, Any]", request)
        answer = self._obey(asked)
        match answer:
            case Refused(reason):
                self.reply({"ok": False, "reason": reason})
            case Accepted(more):
                if (answer.held and answer.done() is None) or (not answer.held and asked.get("wait")):
                    self._answer = answer
                else:
                    self.reply({"ok": True, **more()})
