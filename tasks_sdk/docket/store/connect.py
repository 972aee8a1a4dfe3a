"""From a URL to Redis clients with few connections, explicit timeouts and no retries stacked on ours."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
import redis.asyncio
from redis import exceptions
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry

from docket.errors import AuthenticationFailed, BadURL, ConnectionFailed, DocketError
from docket.store import finding, topology
from docket.store.keys import Keys, partition_of
from docket.store.servers import EmbeddedServer, acquire

REDIS_SCHEMES = ("redis", "rediss", "unix")
MANY_SCHEMES = (*topology.CLUSTER_SCHEMES, *topology.SENTINEL_SCHEMES)
OWN_SCHEMES = ("memory", "embedded")

CONNECT_TIMEOUT = 5.0
REPLY_TIMEOUT = 10.0
"""Seconds until a reply is given up on. Longer than any script of ours takes, shorter than a person's patience."""

# redis-py types its clients incompletely: our stores hold them as Any, and know what they asked for.
# Its own defaults would retry ten times with growing pauses, inside every try of ours.
_OPTIONS: dict[str, Any] = {
    "socket_connect_timeout": CONNECT_TIMEOUT,
    "socket_timeout": REPLY_TIMEOUT,
    "health_check_interval": 0,
    "protocol": 2,
    "decode_responses": False,
    "encoding_errors": "surrogateescape",
}

# A URL's options win over ours. With other values of these, replies would be something else than we read: nothing would
# ever arrive, or a worker would die of what it is told.
_OURS = {
    "protocol": ("2",),
    "decode_responses": ("", "0", "f", "false", "n", "no"),
    "encoding": ("utf-8", "utf8"),
    "encoding_errors": ("surrogateescape",),
}


@cache
def _driver() -> dict[str, Any]:
    """What connections tell Redis of their library. Left to itself, redis-py reads the metadata of its package for each
    of them: milliseconds, and more memory than all the rest of a connection."""
    try:
        from redis import DriverInfo
    except ImportError:  # before redis-py 7.2: read once, when it is imported
        return {}
    return {"driver_info": DriverInfo()}


@dataclass(frozen=True)
class Address:
    """Where Redis is, checked: `url` is what redis-py understands, `server` what we started for it (or attached to).

    With a `finder`, `url` is what the user wrote, and `topology` what it says: where Redis is gets asked each time."""

    url: str = field(repr=False)
    server: EmbeddedServer | None = None
    credentials: redis.CredentialProvider | None = None
    topology: topology.Topology | None = None
    finder: finding.Finder | None = None


def check(url: str) -> str:
    """The URL's scheme, or BadURL with a sentence. Nothing is opened."""
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise BadURL(f"expected a URL as text, got {url!r}")
    _refuse_a_password_that_breaks_the_url(url)
    _refuse_what_is_ours(url)
    if topology.is_cluster(url) or topology.is_sentinel(url):
        return _check_many(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadURL(f"cannot read the Redis URL {hide_password(url)!r}: {error}") from error
    if parts.scheme not in (*REDIS_SCHEMES, *OWN_SCHEMES):
        raise BadURL(
            "expected a URL that begins with redis://, rediss://, unix://, memory:// or embedded://, "
            "redis+sentinel:// or redis+cluster:// (and rediss+ for TLS), "
            f"got {hide_password(url)!r}"
        )
    if parts.scheme in ("redis", "rediss"):
        database = parts.path.strip("/")
        if database and not database.isdigit():
            raise BadURL(
                f"expected a database number after the host, got {database!r} in {hide_password(url)!r}"
            )
        if port == 0:
            raise BadURL(f"expected a port between 1 and 65535 in {hide_password(url)!r}, got 0")
    if parts.scheme in REDIS_SCHEMES:
        try:
            cast(Any, redis.ConnectionPool).from_url(url, **_driver()).make_connection()
        except (ValueError, TypeError, exceptions.RedisError) as error:
            raise BadURL(f"cannot read the Redis URL {hide_password(url)!r}: {error}") from error
    return parts.scheme


def _refuse_a_password_that_breaks_the_url(url: str) -> None:
    """Else its parts would be taken for host, port and database, and shown in sentences about these."""
    scheme, _, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" not in rest or "@" in authority or scheme in ("unix", *OWN_SCHEMES):
        return
    port = "" if authority.endswith("]") else authority.partition(":")[2]
    if "@" not in rest.partition("?")[0] and (not port or port.isdecimal()):
        return  # it belongs to an option
    raise BadURL(
        f"cannot read the Redis URL {hide_password(url)!r}: in a password write / as %2F, ? as %3F, # as %23"
    )


def _refuse_what_is_ours(url: str) -> None:
    query = url.partition("#")[0].partition("?")[2]
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _OURS and value.lower() not in _OURS[name]:
            raise BadURL(
                f"expected no {name}={value} in the Redis URL {hide_password(url)!r}: "
                f"docket relies on what it sets there itself, so leave {name} away"
            )


def _without_ours(url: str) -> str:
    """The URL without the options that say what is so anyway: redis-py takes the text `false` for true."""
    rest, question, query = url.partition("?")
    kept = [each for each in query.split("&") if unquote(each.partition("=")[0]) not in _OURS]
    return f"{rest}{question}{'&'.join(kept)}" if any(kept) else rest


def _check_many(url: str) -> str:
    try:
        read = topology.read(url)
        _pool_options(read)
    except (ValueError, TypeError, exceptions.RedisError) as error:
        raise BadURL(f"cannot read the Redis URL {hide_password(url)!r}: {error}") from error
    return url.partition("://")[0].lower()


def _pool_options(read: topology.Topology) -> dict[str, Any]:
    """What redis-py makes of its part of the URL, once a connection has taken it."""
    url = read.url.replace("redis:", "rediss:", 1) if read.tls else read.url
    pool = cast(Any, redis.ConnectionPool).from_url(url, **_driver())
    pool.make_connection()
    return pool.connection_kwargs


_PASSWORD = "password"


def hide_password(url: str) -> str:
    """The URL as it may be printed. What can hold a secret is left out, even of what is no URL at all."""
    scheme, separator, rest = url.rpartition("://") if "://" not in url else url.partition("://")
    # A password may hold anything, a slash or a question mark too: the last @ ends it.
    before, at, after = rest.rpartition("@")
    if at and _PASSWORD in unquote(before).lower():
        return f"{scheme}{separator}***"
    address, question, query = after.partition("?")
    hidden = "***" if _PASSWORD in unquote(query).lower() else query
    return f"{scheme}{separator}{'***@' if at else ''}{address}{question}{hidden}"


def refuse_two_credentials(url: str, provider: redis.CredentialProvider | None) -> None:
    """ValueError if both the URL and a provider know a user name or a password; TypeError if it is no provider."""
    if provider is None:
        return
    if not isinstance(provider, redis.CredentialProvider):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"expected credential_provider to be a redis.CredentialProvider, got a {type(provider).__name__}"
        )
    many = topology.is_cluster(url) or topology.is_sentinel(url)
    parts = urlsplit(topology.read(url).url if many else url)
    named = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if parts.username is not None or parts.password is not None or named & {"username", "password"}:
        raise ValueError(
            f"expected the credentials in the URL or from credential_provider, got both ({hide_password(url)!r})"
        )


def keys_of(name: str, url: str) -> Keys:
    """The names of a docket's keys in the Redis of this URL. BadURL if a cluster cannot hold that docket."""
    clustered = topology.is_cluster(url)
    if clustered and name.startswith("}"):
        raise BadURL(f"expected the docket's name on a cluster not to begin with a brace, got {name!r}")
    return Keys(name, clustered=clustered)


def partitions_of(name: str, url: str, partitions: int) -> tuple[Keys, ...]:
    """The names of the keys of each partition; of a docket that is not split, those of the docket."""
    whole = keys_of(name, url)
    if partitions == 1:
        return (whole,)
    return tuple(partition_of(name, number, partitions) for number in range(partitions))


def resolve(url: str, name: str, credentials: redis.CredentialProvider | None = None) -> Address:
    """Starts or attaches to our own server where the URL asks for one. Blocks for as long as that takes (< 10 s).

    `name`: the docket's, on which it depends where in a cluster it lives."""
    scheme = check(url)
    if scheme in OWN_SCHEMES:
        server = acquire(url)
        return Address(f"unix://{server.socket_path}", server)
    if scheme not in MANY_SCHEMES:
        return Address(_without_ours(url), credentials=credentials)
    read = topology.read(url)
    read = replace(read, url=_without_ours(read.url))
    options = _pool_options(read)
    asking = {option: value for option, value in options.items() if option.startswith("ssl_")}
    if topology.is_cluster(url):
        asking |= {each: options[each] for each in ("username", "password") if each in options}
        asking |= {} if credentials is None else {"credential_provider": credentials}
        finder = finding.cluster_finder(keys_of(name, url).stream, read.members, asking)
    else:
        asking |= {"username": read.sentinel_username or None, "password": read.sentinel_password or None}
        finder = finding.sentinel_finder(read.service, read.members, asking)
    return Address(url, credentials=credentials, topology=read, finder=finder)


def address_of(whole: Address, keys: Keys) -> Address:
    """Where a partition with these keys is to be looked for, if the docket is as a whole there; on a single server that
    is the same."""
    if whole.topology is None or whole.finder is None or not topology.is_cluster(whole.url):
        return whole
    finder = finding.cluster_finder(keys.stream, whole.topology.members, whole.finder.asking)
    return replace(whole, finder=finder)


def _options(address: Address, options: dict[str, Any], plain: Any, tls: Any) -> dict[str, Any]:
    network = {} if address.url.startswith("unix:") else {"socket_keepalive": True}
    asked = {} if address.credentials is None else {"credential_provider": address.credentials}
    found: dict[str, Any] = {}
    if address.finder is not None and address.topology is not None:
        found = {"finder": address.finder, "connection_class": tls if address.topology.tls else plain}
    return {**_OPTIONS, **_driver(), **network, **asked, **found, **options}


def _url(address: Address) -> str:
    return address.url if address.topology is None else address.topology.url


def async_client(
    address: Address, connections: int, *, wait: float = 60.0, **options: Any
) -> redis.asyncio.Redis:
    """A client whose callers wait for one of `connections` connections, `wait` seconds at most."""
    pool: Any = cast(Any, redis.asyncio.BlockingConnectionPool).from_url(
        _url(address),
        max_connections=connections,
        timeout=wait,
        retry=AsyncRetry(NoBackoff(), 0),
        **_options(
            address,
            {"socket_timeout": None, **options},
            finding.AsyncFoundConnection,
            finding.AsyncFoundSSLConnection,
        ),
    )
    client = redis.asyncio.Redis.from_pool(pool)
    # Replies as Redis sends them: what they mean is known where the request was made.
    client.response_callbacks.clear()
    return client


def blocking_client(address: Address, connections: int, *, wait: float = 60.0, **options: Any) -> redis.Redis:
    """The same for threads."""
    pool: Any = cast(Any, redis.BlockingConnectionPool).from_url(
        _url(address),
        max_connections=connections,
        timeout=wait,
        retry=Retry(NoBackoff(), 0),
        **_options(address, options, finding.FoundConnection, finding.FoundSSLConnection),
    )
    client = redis.Redis.from_pool(pool)
    client.response_callbacks.clear()
    return client


def cluster_client(kind: Any, address: Address) -> Any:
    """`kind`: redis-py's RedisCluster, for loops or for threads. It does its own redirections and retries."""
    assert address.topology is not None
    read = address.topology
    url = read.url.replace("redis:", "rediss:", 1) if read.tls else read.url
    node: Any = AsyncClusterNode if kind is redis.asyncio.RedisCluster else ClusterNode
    nodes = [node(host, port) for host, port in read.members]
    asked = {} if address.credentials is None else {"credential_provider": address.credentials}
    return kind.from_url(url, startup_nodes=nodes, socket_connect_timeout=CONNECT_TIMEOUT, **asked)


def translated(error: Exception, url: str) -> DocketError | None:
    """The error of ours that says what this one of redis-py means, or None if it is none of the connection's."""
    where = hide_password(url)
    if _is_about_passwords(error):
        return AuthenticationFailed(f"Redis at {where} refused the user name or password: {error}")
    if isinstance(error, BROKEN) or refuses(error):
        return ConnectionFailed(f"cannot reach Redis at {where}: {str(error) or type(error).__name__}")
    return None


def _is_about_passwords(error: BaseException) -> bool:
    """redis-py says some of it by class, some only by text, and wraps it when it happens while connecting."""
    if isinstance(error, exceptions.AuthenticationError):
        return True
    said = str(error).lower()
    about = ("noauth", "wrongpass", "authentication required", "username-password", "unauthenticated")
    return any(words in said for words in about)


@contextmanager
def translating(url: str) -> Generator[None]:
    """Errors of the connection leave as ours."""
    try:
        yield
    except DocketError:
        raise
    except (exceptions.RedisError, OSError) as error:
        ours = translated(error, url)
        if ours is None:
            raise
        raise ours from error


def refuses(error: BaseException) -> bool:
    """True if this server is not, or not at the moment, the one to do it: nothing of what was asked has happened."""
    return isinstance(error, _REFUSALS) or _says(error, _REFUSED)


def is_outage(error: BaseException) -> bool:
    """True if Redis cannot be reached, or is not the one to ask, and that may be over soon."""
    return (isinstance(error, BROKEN) or refuses(error)) and not _is_about_passwords(error)


def takes_no_writes(error: BaseException) -> bool:
    """True if this server is full, a replica, short of replicas, or cannot save; whatever only reads is answered."""
    return isinstance(error, _UNWRITABLE) or _says(error, _UNWRITTEN)


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    """Redis 6.2 wraps what a script ran into in a text of its own."""
    return isinstance(error, exceptions.ResponseError) and any(each in str(error) for each in words)


_REFUSALS = (
    exceptions.MovedError,
    exceptions.AskError,
    exceptions.TryAgainError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
    exceptions.ReadOnlyError,
    exceptions.BusyLoadingError,
    finding.NotThere,
)
# BUSY, with its space, is said while somebody else's script runs for long; BUSYGROUP is something else. The last one is
# said while a slot is being moved, and then by the first command of each script (`lua/_house.lua`).
_REFUSED = ("READONLY ", "NOREPLICAS ", "MASTERDOWN ", "CLUSTERDOWN ", "BUSY ", "access a non local key")

_UNWRITABLE = (exceptions.OutOfMemoryError, exceptions.ReadOnlyError)
_UNWRITTEN = ("READONLY ", "NOREPLICAS ", "OOM ", "MISCONF ")
"""How Redis begins when it answers and takes nothing that is written; redis-py makes classes of the first and third."""

BROKEN = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
"""What a lost, refused or silent connection raises; what is final among them is told apart by `is_final`."""


def is_final(error: BaseException) -> bool:
    """True if trying again at once cannot help."""
    final = (
        TimeoutError,
        exceptions.TimeoutError,
        exceptions.AuthenticationError,
        exceptions.AuthorizationError,
        exceptions.MaxConnectionsError,
    )
    return isinstance(error, final) or _is_about_passwords(error)


def may_try_again(error: BaseException, *, repeatable: bool) -> bool:
    """True if asking once more, on another connection, can help and cannot do a thing twice."""
    if refuses(error):
        return True
    return isinstance(error, BROKEN) and repeatable and not is_final(error)
