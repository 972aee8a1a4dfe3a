"""From a URL to clients: checked at once, shown without its password."""

from __future__ import annotations

import pytest

from docket import BadURL
from docket.settings import DEFAULT_NAME, DEFAULT_URL, DocketSettings
from docket.store.connect import check, hide_password


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
