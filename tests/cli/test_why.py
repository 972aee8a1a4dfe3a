"""`docket why KEY`: what keeps an execution from running."""

from __future__ import annotations

import json
from datetime import timedelta

from docket import ConcurrencyLimit, clock
from docket.sync import Docket
from tests.cli.conftest import Answer


def test_the_first_reason_is_in_the_first_line(ask: Answer, client: Docket) -> None:
    when = clock.now() + timedelta(hours=2)
    client.add("trace", when=when, key="k")("x")
    assert ask("why", "k") == (
        0,
        f"k is scheduled: it is parked until {when.isoformat()} (in 2h)\n  no worker is alive\n",
        "",
    )
    client.cancel("k")


def test_for_a_program(ask: Answer, client: Docket) -> None:
    client.add("trace", key="k")("x")
    code, told, _ = ask("why", "k", "--json")
    assert code == 0
    assert json.loads(told) == {
        "key": "k",
        "state": "queued",
        "reasons": ["it is in line, as the first", "no worker is alive"],
    }
    client.cancel("k")
    assert json.loads(ask("why", "k", "--json")[1])["state"] == "cancelled"


def test_a_key_of_which_nothing_is_known_is_not_found(ask: Answer, client: Docket) -> None:
    code, told, line = ask("why", "k")
    assert (code, told) == (4, "") and "execution 'k'" in line
    code, told, _ = ask("why", "k", "--json")
    assert code == 4
    assert json.loads(told) == {
        "key": "k",
        "state": None,
        "reasons": ["nothing is known of this key: it never existed, or its record has expired"],
    }


def test_what_waits_for_a_limit_is_told_to_wait(ask: Answer, client: Docket) -> None:
    """Paused by an operator, and it says so."""

    async def hold(customer: int, limit: ConcurrencyLimit = ConcurrencyLimit("customer")) -> None: ...

    ask("limits", "set", "customer", "0")
    client.add(hold, key="k")(7)
    code, told, _ = ask("why", "k")
    assert code == 0
    assert told.startswith(
        "k is queued: it is waiting for the concurrency limit customer:7, as the first in line\n"
    )
    assert "paused with `docket limits set`" in told
    client.clear()
    ask("limits", "reset", "customer")


def test_a_key_cannot_write_on_the_terminal(ask: Answer, client: Docket) -> None:
    client.add("trace", key="a\x1b[2Jb")("x")
    told = ask("why", "a\x1b[2Jb")[1]
    assert "\x1b" not in told and "is queued" in told
    client.cancel("a\x1b[2Jb")
