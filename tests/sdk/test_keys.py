"""The catalogue of keys, and that the scripts derive the same."""

from __future__ import annotations

import inspect
import re

from docket.store.keys import KINDS, Keys, kind_of, singles
from tests.guards.tree import REPOSITORY

KEYS = Keys("name")


def every_name(keys: Keys) -> dict[str, str]:
    names: dict[str, str] = {}
    for attribute, value in vars(Keys).items():
        if attribute.startswith("_") or attribute == "lane":
            continue
        found = getattr(keys, attribute)
        if inspect.ismethod(found):
            found = found(*("user text" for _ in inspect.signature(found).parameters))
        if isinstance(value, property) or inspect.isfunction(value):
            names[attribute] = found
    return names


def test_every_key_begins_with_the_prefix_and_no_two_are_alike():
    names = every_name(KEYS)
    assert len(names) > 15
    assert all(name.startswith("name:") for name in names.values())
    channels = {attribute for attribute in names if "channel" in attribute or "signals" in attribute}
    for kind in (names.keys() - channels, channels):  # channels are no keys: they may be called alike
        assert len({names[attribute] for attribute in kind}) == len(kind)


def test_user_text_follows_a_fixed_word():
    for attribute, name in every_name(KEYS).items():
        if "user text" in name:
            assert re.match(r"name:[a-z_]+:.*user text", name), attribute


def test_on_a_cluster_everything_lies_in_one_slot():
    assert all(name.startswith("{name}:") for name in every_name(Keys("name", clustered=True)).values())


def test_every_key_is_described():
    for attribute, value in vars(Keys).items():
        if not attribute.startswith("_") and attribute != "lane":
            document = value.__doc__ if not isinstance(value, property) else value.fget.__doc__
            assert document and "·" in document, attribute


def test_the_scripts_know_no_other_names():
    """What `_house.lua` derives from the prefix is in the catalogue."""
    text = (REPOSITORY / "tasks_sdk/docket/store/lua/_house.lua").read_text()
    derived = set(re.findall(r'prefix \.\. "(:[^"]+)"', text))
    known = {name.removeprefix("name").removesuffix("user text") for name in every_name(KEYS).values()}
    assert derived <= known, derived - known


def test_what_lies_at_a_key_is_said_once_more_for_programs():
    """So that an error can tell what is foreign there."""
    names = every_name(KEYS)
    said: dict[str, str] = {}
    for attribute, name in names.items():
        value = vars(Keys)[attribute]
        document = (value.fget if isinstance(value, property) else value).__doc__ or ""
        kind = document.partition(" · ")[0]
        if kind in ("stream", "hash", "set", "zset", "string"):
            said[name] = kind
    assert {name: kind_of(name) for name in said} == said
    assert set(singles(KEYS)) == {name for name in said if "user text" not in name}
    assert {name.split(":")[1] for name in said} == KINDS.keys()
    assert kind_of("a:b:runs:k") == "hash" and kind_of("elsewhere") is None
