"""URLs of several servers: `redis+cluster://` and `redis+sentinel://`, and both with `rediss+` for TLS."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from docket.errors import BadURL

CLUSTER_SCHEMES = ("redis+cluster", "rediss+cluster")
SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")

Place = tuple[str, int]
"""Host and port."""

_CLUSTER_PORT, _SENTINEL_PORT = 6379, 26379


@dataclass(frozen=True)
class Topology:
    """What such a URL says. `url`: the first member as a plain redis:// URL with the credentials, the database and the
    options of all connections to Redis itself. `service` is Sentinel's name for the master."""

    members: tuple[Place, ...]
    url: str = field(repr=False)
    tls: bool
    service: str = ""
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)


def is_cluster(url: str) -> bool:
    return _scheme(url) in CLUSTER_SCHEMES


def is_sentinel(url: str) -> bool:
    return _scheme(url) in SENTINEL_SCHEMES


def read(url: str) -> Topology:
    """BadURL says what is wrong, without the URL: it may hold a password."""
    scheme, _, rest = url.partition("://")
    # Not by urlsplit: it takes several hosts for one, and refuses a comma before an IPv6 address.
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    credentials, at, hosts = rest[:end].rpartition("@")
    tail = urlsplit(f"//host{rest[end:]}")
    if tail.fragment:
        raise BadURL("expected no # in it: write it as %23")
    options = dict(parse_qsl(tail.query, keep_blank_values=True))
    sentinel = is_sentinel(url)
    members = tuple(_member(each, _SENTINEL_PORT if sentinel else _CLUSTER_PORT) for each in hosts.split(","))
    service, database = _path(tail.path, sentinel)
    asked = [options.pop(name, "") for name in ("sentinel_username", "sentinel_password")]
    if any(asked) and not sentinel:
        raise BadURL("expected sentinel_username and sentinel_password with a Sentinel only")
    if "db" in options:
        raise BadURL("expected the database in the path, got the option db")
    host, port = members[0]
    authority = f"{credentials}{at}{f'[{host}]' if ':' in host else host}:{port}"
    return Topology(
        members,
        f"redis://{authority}"
        + (f"/{database}" if database else "")
        + (f"?{urlencode(options)}" if options else ""),
        scheme.lower().startswith("rediss"),
        service,
        *asked,
    )


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


def _member(text: str, otherwise: int) -> Place:
    try:
        parts = urlsplit(f"//{text.strip()}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadURL(f"expected HOST:PORT, got {text!r} ({error})") from error
    if not host or port == 0:
        raise BadURL(f"expected HOST:PORT, got {text!r}")
    return host, port or otherwise


def _path(path: str, sentinel: bool) -> tuple[str, int]:
    segments = [unquote(each) for each in path.split("/") if each]
    service = ""
    if sentinel:
        if not segments:
            raise BadURL(
                "expected the name of the service after the hosts, as in redis+sentinel://host/mymaster"
            )
        service = segments.pop(0)
    database = segments.pop(0) if segments else "0"
    if segments or not (database.isascii() and database.isdigit()):
        raise BadURL(f"expected a database number, got {'/'.join([database, *segments])!r}")
    if int(database) and not sentinel:
        raise BadURL(f"expected the database 0, since a cluster has no other, got {database}")
    return service, int(database)
