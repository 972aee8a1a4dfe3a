"""URLs of several servers: what they say, and what is refused at once."""

from __future__ import annotations

import re

import pytest

from docket import BadURL, Docket
from docket.store.connect import check, hide_password, keys_of
from docket.store.topology import read


@pytest.mark.parametrize(
    ("url", "members", "plain"),
    [
        ("redis+cluster://a", [("a", 6379)], "redis://a:6379"),
        ("redis+cluster://a:1,b:2/0", [("a", 1), ("b", 2)], "redis://a:1"),
        ("redis+cluster://u:p%40@a:1,[::1]:2", [("a", 1), ("::1", 2)], "redis://u:p%40@a:1"),
        ("redis+cluster://[::1]:2,a", [("::1", 2), ("a", 6379)], "redis://[::1]:2"),
        ("redis+cluster://a?socket_timeout=3", [("a", 6379)], "redis://a:6379?socket_timeout=3"),
    ],
)
def test_a_cluster_is_named_by_some_of_its_nodes(url: str, members: list[tuple[str, int]], plain: str):
    found = read(url)
    assert (list(found.members), found.url, found.tls) == (members, plain, False)
    assert check(url) == "redis+cluster"


def test_a_sentinel_is_asked_for_a_service_with_credentials_of_its_own():
    url = "rediss+sentinel://u:p@s1,s2:1/orders/3?sentinel_username=x&sentinel_password=y&socket_timeout=3"
    found = read(url)
    assert check(url) == "rediss+sentinel"
    assert found.members == (("s1", 26379), ("s2", 1))
    assert (found.service, found.tls) == ("orders", True)
    assert (found.sentinel_username, found.sentinel_password) == ("x", "y")
    assert found.url == "redis://u:p@s1:26379/3?socket_timeout=3"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis+cluster://", "HOST:PORT"),
        ("redis+cluster://a,,b", "HOST:PORT"),
        ("redis+cluster://a:0", "HOST:PORT"),
        ("redis+cluster://a:99999", "HOST:PORT"),
        ("redis+cluster://a/1", "the database 0"),
        ("redis+cluster://a/b", "a database number"),
        ("redis+cluster://a?db=1", "database in the path"),
        ("redis+cluster://a?no_such_option=1", "no_such_option"),
        ("redis+cluster://a?sentinel_password=x", "with a Sentinel only"),
        ("redis+sentinel://a", "name of the service"),
        ("redis+sentinel://a/mymaster/x", "a database number"),
        ("redis+sentinel://a/mymaster/0/1", "a database number"),
        ("redis+sentinel://a/mymaster#x", "%23"),
        ("redis+sentinels://a/mymaster", "redis+sentinel://"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(url: str, said: str):
    with pytest.raises(BadURL, match=re.escape(said)):
        Docket(url=url)


def test_no_url_of_several_servers_shows_its_passwords():
    url = "redis+sentinel://u:secret@a:1,b:2/mymaster?sentinel_password=secret"
    assert hide_password(url) == "redis+sentinel://***@a:1,b:2/mymaster?***"
    with pytest.raises(BadURL) as refused:
        check(url.replace(":1", ":0"))
    assert "secret" not in str(refused.value)


def test_only_on_a_cluster_the_name_stands_in_braces():
    assert keys_of("shop", "redis+cluster://a").stream == "{shop}:stream"
    assert keys_of("shop", "redis+sentinel://a/mymaster").stream == "shop:stream"


def test_a_name_that_would_scatter_over_a_cluster_is_refused():
    with pytest.raises(BadURL, match="brace"):
        Docket(name="}shop", url="redis+cluster://a")
