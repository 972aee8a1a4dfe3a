"""From a URL to clients: checked at once, shown without its password."""

from __future__ import annotations

import pytest

from docket import BadURL, Docket
from docket.settings import DEFAULT_NAME, DEFAULT_URL, DocketSettings
from docket.store.connect import check, hide_password, resolve
from tests.redis_server import RedisServer
from tests.runtime.support import work_off


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("redis://localhost", "redis"),
        ("redis://localhost:6379/0", "redis"),
        ("redis://user:pass@[::1]:6379/15?socket_timeout=5", "redis"),
        ("rediss://host", "rediss"),
        ("unix:///tmp/redis.sock?db=2", "unix"),
        ("unix:///tmp/a@b.sock", "unix"),
        ("redis://host:1/0?client_name=me@home", "redis"),
        ("memory://name", "memory"),
        ("embedded:///var/lib/docket", "embedded"),
    ],
)
def test_good_urls_are_taken(url: str, scheme: str):
    assert check(url) == scheme


@pytest.mark.parametrize(
    "url", ["", "redis", "//host", "http://x", "redis://h:99999", "redis://h/x", "redis://h:0"]
)
def test_bad_urls_are_told_apart_at_once(url: str):
    with pytest.raises(BadURL):
        check(url)


@pytest.mark.parametrize(
    "place", ["redis://:secret@h", "unix:///tmp/x.sock", "redis+sentinel://h/s", "redis+cluster://h"]
)
@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("protocol", "3", "2"),
        ("decode_responses", "true", "False"),
        ("encoding", "latin-1", "utf-8"),
        ("encoding_errors", "strict", "surrogateescape"),
    ],
)
def test_what_docket_relies_on_is_not_for_a_url_to_say(place: str, name: str, wrong: str, right: str):
    with pytest.raises(BadURL, match=f"expected no {name}={wrong} in .*leave {name} away") as caught:
        check(f"{place}?client_name=x&{name}={wrong}")
    assert "secret" not in str(caught.value)
    check(f"{place}?client_name=x&{name}={right}")
    for query, kept in ((f"?client_name=x&{name}={right}", "?client_name=x"), (f"?{name}={right}", "")):
        address = resolve(place + query, "d")
        url = address.url if address.topology is None else address.topology.url
        assert url.partition("?")[2] == kept.removeprefix("?") and name not in url


@pytest.mark.parametrize("option", ["protocol=2", "decode_responses=false", "encoding=UTF-8"])
async def test_an_option_that_says_what_is_so_anyway_changes_nothing(
    docket_name: str, redis_server: RedisServer, option: str
):
    url = f"{redis_server.url}{'&' if '?' in redis_server.url else '?'}{option}"
    async with Docket(docket_name, url) as docket:
        execution = await docket.add("trace", key="k")("x")
        await work_off(docket)
        assert await execution.get_result() is None
        assert await docket.workers() is not None and (await docket.snapshot()).total_tasks == 0
        async with docket.redis() as client:
            assert await client.hget(docket.keys.runs("k"), "state") == b"completed"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://user:secret@host:1/0", "redis://***@host:1/0"),
        ("redis://:secret@host", "redis://***@host"),
        ("redis://user:se@cret@host", "redis://***@host"),
        ("unix:///tmp/x.sock", "unix:///tmp/x.sock"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str):
    assert hide_password(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "unix:///tmp/x.sock?password=secret",
        "redis://host?password=secret",
        "unix://:secret@/tmp/x.sock",
        "redis://u:secret@[::1",
        "redis://u:secret@h?username=x&password=secret",
    ],
)
def test_no_url_shows_its_password(url: str):
    assert "secret" not in hide_password(url)


@pytest.mark.parametrize("character", "/?#")
def test_a_password_that_breaks_the_url_is_not_taken_for_a_port_and_shown(character: str):
    with pytest.raises(BadURL, match="in a password write / as %2F") as caught:
        check(f"redis://user:hunter{character}two@host:6379/0")
    assert "hunter" not in str(caught.value) and "two" not in str(caught.value)


def test_settings_come_from_the_environment_or_are_the_defaults():
    assert DocketSettings.from_environment({}) == DocketSettings()
    assert (DocketSettings().name, DocketSettings().url) == (DEFAULT_NAME, DEFAULT_URL)
    told = DocketSettings.from_environment({"DOCKET_NAME": "orders", "DOCKET_URL": "redis://elsewhere"})
    assert (told.name, told.url) == ("orders", "redis://elsewhere")
