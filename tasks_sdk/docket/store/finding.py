"""Which server a docket lives on at this moment: a Sentinel's master, or the cluster's node that owns its hash slot.

All of a docket lies in one hash slot, so on a cluster, too, it talks to one server. Where that is gets asked anew for
each connection: nothing is remembered that a failover could make wrong. A connection counts only when the server itself
has confirmed that it is the one.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Generator, Sequence
from typing import Any, cast

import redis
import redis.asyncio
from redis import exceptions
from redis.asyncio.connection import SSLConnection as AsyncSSLConnection
from redis.crc import key_slot

from docket import clock
from docket.store.topology import Place

UNEASY_AFTER = 1.0
"""Seconds of silence, with a reply due, after which it is asked each time whether the docket still lives there. A
server that stands still closes no connection, and who waits for it would be the last to learn that another has taken
over: when it goes on it answers, until it is told that it is a replica, and what it was given by then is lost."""
_PATIENCE = 2.0
"""Seconds for each member that is asked: the next may know as well."""

Question = tuple[str | int, ...]
Inquiry = Generator[Place, Any, Place]
"""Yields who is to be asked; is sent the reply, or the error there was instead; returns where the docket lives."""


def left_behind(host: str, port: int) -> exceptions.ConnectionError:
    """For whoever still waits for it."""
    return exceptions.ConnectionError(f"{host}:{port} does not answer, and another one is the master by now")


class NotThere(exceptions.ConnectionError):
    """The server that should have this docket says that it has not, or nobody knows which one has."""


class Finder:
    """Shared by all clients of one address, in loops and threads.

    `question` is put to the members, `read` finds the answer in the reply of one of them; `proof` is put to whom they
    named, and `proven` judges its reply. `asking`: redis-py's options for a connection to a member.
    """

    def __init__(
        self,
        members: Sequence[Place],
        question: Question,
        read: Callable[[Any, Place], tuple[Place | None, Sequence[Place]]],
        proof: Question,
        proven: Callable[[Any], bool],
        asking: dict[str, Any],
    ) -> None:
        self.question, self._read, self.proof, self._proven = question, read, proof, proven
        self.asking = asking
        self._seeds = tuple(members)
        self._members = list(members)
        self._lock = threading.Lock()
        self._proved: Place | None = None
        self._bound: weakref.WeakKeyDictionary[Any, tuple[Place, Callable[[], object]]] = (
            weakref.WeakKeyDictionary()
        )

    def inquire(self) -> Inquiry:
        said: list[str] = []
        for member in tuple(self._members):
            reply = yield member
            if isinstance(reply, Exception):
                said.append(f"{member[0]}:{member[1]}: {str(reply) or type(reply).__name__}")
                continue
            found, others = self._read(reply, member)
            if found is None:
                said.append(f"{member[0]}:{member[1]} does not know")
                continue
            with self._lock:
                # Whom the URL names may be gone one day; what the others said then still leads on.
                known = dict.fromkeys([member, *self._members, *others])
                self._members = [each for each in known if each in (*self._seeds, *others)]
            return found
        raise NotThere(f"nobody says where the master is ({'; '.join(said)})")

    def doubt(self) -> None:
        """Next time somebody else is asked first: whoever answered may be cut off from the rest."""
        with self._lock:
            self._members.append(self._members.pop(0))

    def judge(self, reply: Any, connection: Any, place: Place, cut: Callable[[], object]) -> None:
        """`connection` leads to the right server, or NotThere. `cut` ends it, from any thread: as soon as the docket is
        proven to live elsewhere, all that still lead to its old place are cut. A server that is cut off or frozen
        would not end them for hours."""
        if not self._proven(reply):
            self.doubt()
            raise NotThere(f"{place[0]}:{place[1]} is not the master")
        with self._lock:
            self._bound[connection] = (place, cut)
            if place == self._proved:
                return
            self._proved = place
            stale = [cut for bound_to, cut in self._bound.values() if bound_to != place]
        for cut_off in stale:
            cut_off()


def sentinel_finder(service: str, members: Sequence[Place], asking: dict[str, Any]) -> Finder:
    def read(reply: Any, _: Place) -> tuple[Place | None, Sequence[Place]]:
        if not reply:
            return None, ()
        return (_text(reply[0]), int(reply[1])), ()

    def is_master(reply: Any) -> bool:
        return _text(reply[0]) == "master"

    question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
    return Finder(members, question, read, ("ROLE",), is_master, asking)


def cluster_finder(key: str, members: Sequence[Place], asking: dict[str, Any]) -> Finder:
    """`key`: any of the docket's keys. The owner of its slot answers to it, all others refer to somebody else."""
    slot = key_slot(key.encode())

    def read(reply: Any, asked: Place) -> tuple[Place | None, Sequence[Place]]:
        owner: Place | None = None
        nodes: dict[Place, None] = {}
        for first, last, *holders in reply:
            places = [_place(holder, asked) for holder in holders]
            nodes.update(dict.fromkeys(places))
            if first <= slot <= last:
                owner = places[0]
        return owner, list(nodes)

    return Finder(members, ("CLUSTER", "SLOTS"), read, ("EXISTS", key), lambda _: True, asking)


def _place(node: Sequence[Any], asked: Place) -> Place:
    """A node that does not know its own name is where we found it."""
    host = _text(node[0] or b"")
    return (asked[0] if host in ("", "?") else host), int(node[1])


def _text(raw: Any) -> str:
    return raw.decode() if isinstance(raw, bytes) else str(raw)


# --- the connections -------------------------------------------------------------------------------------------------


class _Blocking:
    """Mixed into redis-py's connections for threads."""

    def __init__(self, *, finder: Finder, **options: Any) -> None:
        self._finder, self._proved = finder, False
        super().__init__(**{**options, "redis_connect_func": self._prove})

    def _connect(self) -> Any:
        self._proved = False
        self.host, self.port = self._where()
        try:
            return cast(Any, super())._connect()
        except (exceptions.RedisError, OSError):
            self._finder.doubt()
            raise

    def _where(self) -> Place:
        inquiry = self._finder.inquire()
        try:
            member = next(inquiry)
            while True:
                member = inquiry.send(self._ask(member))
        except StopIteration as found:
            return found.value

    def _ask(self, member: Place) -> Any:
        kind = redis.SSLConnection if isinstance(self, redis.SSLConnection) else redis.Connection
        connection: Any = kind(host=member[0], port=member[1], **_brief(self._finder.asking))
        try:
            connection.connect()
            connection.send_command(*self._finder.question)
            return connection.read_response()
        except exceptions.AuthenticationError:
            raise
        except (exceptions.RedisError, OSError) as error:
            return error
        finally:
            connection.disconnect()

    def _prove(self, connection: Any) -> None:
        # Some connections may be silent for ever; not while they are made.
        connection._sock.settimeout(_PATIENCE)
        connection.on_connect()
        try:
            connection.send_command(*self._finder.proof)
            reply = connection.read_response()
        except exceptions.ResponseError as error:
            self._finder.doubt()
            raise NotThere(str(error)) from error
        connection._sock.settimeout(connection.socket_timeout)
        self._finder.judge(reply, self, (self.host, self.port), _cutter(weakref.ref(self)))
        self._proved = True

    def read_response(self, *args: Any, **options: Any) -> Any:
        own: Any = self
        # Those who listen are silent for long; they are cut when any other connection is proven.
        if self._proved and own.socket_timeout is not None:
            try:
                self._wait(clock.monotonic() + own.socket_timeout)
            except exceptions.RedisError:
                own.disconnect()
                raise
        return cast(Any, super()).read_response(*args, **options)

    def _wait(self, give_up_at: float) -> None:
        """Until a reply begins."""
        own: Any = self
        while (left := give_up_at - clock.monotonic()) > 0:
            if own.can_read(timeout=min(left, UNEASY_AFTER)):
                return
            if self._has_moved():
                raise left_behind(self.host, self.port)
        raise exceptions.TimeoutError(f"{self.host}:{self.port} does not answer")

    def _has_moved(self) -> bool:
        try:
            return self._where() != (self.host, self.port)
        except exceptions.RedisError:
            return False  # nobody knows


def _cutter(reference: Callable[[], Any]) -> Callable[[], object]:
    def cut() -> None:
        sock = getattr(reference(), "_sock", None)
        if sock is not None:
            try:
                sock.shutdown(2)
            except OSError:
                return  # it is closed already

    return cut


class FoundConnection(_Blocking, redis.Connection):
    """To wherever the docket lives."""


class FoundSSLConnection(_Blocking, redis.SSLConnection):
    """The same with TLS."""


class _Async:
    """Mixed into redis-py's connections for event loops."""

    def __init__(self, *, finder: Finder, **options: Any) -> None:
        self._finder = finder
        super().__init__(**{**options, "redis_connect_func": self._prove})

    async def _connect(self) -> None:
        self.host, self.port = await self._where()
        try:
            await cast(Any, super())._connect()
        except (exceptions.RedisError, OSError):
            self._finder.doubt()
            raise

    async def has_moved(self) -> bool:
        """The docket lives elsewhere by now."""
        try:
            return await self._where() != (self.host, self.port)
        except exceptions.RedisError:
            return False  # nobody knows

    async def _where(self) -> Place:
        inquiry = self._finder.inquire()
        try:
            member = next(inquiry)
            while True:
                member = inquiry.send(await self._ask(member))
        except StopIteration as found:
            return found.value

    async def _ask(self, member: Place) -> Any:
        kind: Any = AsyncSSLConnection if isinstance(self, AsyncSSLConnection) else redis.asyncio.Connection
        connection: Any = kind(host=member[0], port=member[1], **_brief(self._finder.asking))
        try:
            async with asyncio.timeout(_PATIENCE):
                await connection.connect()
                await connection.send_command(*self._finder.question)
                return await connection.read_response()
        except exceptions.AuthenticationError:
            raise
        except (exceptions.RedisError, OSError) as error:
            return error
        finally:
            await connection.disconnect(nowait=True)

    async def _prove(self, connection: Any) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await connection.on_connect()
                await connection.send_command(*self._finder.proof)
                reply = await connection.read_response()
        except TimeoutError as error:
            self._finder.doubt()
            raise exceptions.TimeoutError(f"{self.host}:{self.port} does not answer") from error
        except exceptions.AuthenticationError:
            raise
        except exceptions.ResponseError as error:
            self._finder.doubt()
            raise NotThere(str(error)) from error
        loop, transport = asyncio.get_running_loop(), connection._writer.transport

        def cut() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(transport.abort)

        self._finder.judge(reply, self, (self.host, self.port), cut)


class AsyncFoundConnection(_Async, redis.asyncio.Connection):
    """To wherever the docket lives."""


class AsyncFoundSSLConnection(_Async, AsyncSSLConnection):
    """The same with TLS."""


def _brief(asking: dict[str, Any]) -> dict[str, Any]:
    return {"socket_connect_timeout": _PATIENCE, "socket_timeout": _PATIENCE, **asking}
