"""Telemetry costs nothing and needs nothing as long as nobody wants it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docket import payload, propagation
from docket.errors import CannotLoad
from tests.cli.conftest import variables

BLOCKED = """\
import importlib.abc, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Blocked())
"""


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=variables(), timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_opentelemetry_the_names_exist_and_count_nothing():
    names = run(
        BLOCKED
        + """
import docket.instrumentation as i
for name in i.__all__:
    assert getattr(i, name) is not None
for name in dir(i):
    if name.startswith("TASK"):
        instrument = getattr(i, name)
        instrument.add(1, {"a": "b"}); instrument.record(1.0); instrument.set(2)
carrier = {}
i.message_setter.set(carrier, "traceparent", "00-1-2-01")
print(i.message_getter.get(carrier, "traceparent"), i.message_getter.get(carrier, "x"), i.message_getter.keys(carrier))
"""
    )
    assert names == "['00-1-2-01'] None ['traceparent']"


def test_without_opentelemetry_the_metrics_say_what_they_need():
    said = run(
        BLOCKED
        + """
from docket.instrumentation import metrics_server
with metrics_server(port=None): pass
try:
    with metrics_server(port=0): pass
except ImportError as error:
    print(error)
"""
    )
    assert said == "metrics need OpenTelemetry: pip install 'docket-runtime[otel]'"


def test_nothing_of_it_is_loaded_by_those_who_add_and_run_tasks():
    """redis-py loads OpenTelemetry itself where that is installed; so it is to be loaded by us alone, or not at all."""
    loaded = run(
        """
import sys, asyncio
import redis.asyncio
before = set(sys.modules)
from docket import Docket, Worker, telemetry
import docket.sync
async def f(): pass
async def main():
    async with Docket("x", "memory://telemetry-test") as d:
        await d.add(f)()
        async with Worker(d) as w: await w.run_until_finished()
asyncio.run(main())
assert not telemetry.tracing() and not telemetry.metering()
print([name for name in set(sys.modules) - before if name.startswith(("opentelemetry", "docket.instruments"))])
"""
    )
    assert loaded == "[]"


def test_a_port_that_is_not_wanted_is_not_opened():
    from docket.instrumentation import healthcheck_server, metrics_server

    with healthcheck_server() as health, metrics_server() as metrics:
        assert health is None and metrics is None


def test_the_health_of_whoever_asks_for_no_checks_is_good():
    from urllib.request import urlopen

    from docket.instrumentation import healthcheck_server

    with healthcheck_server(port=0) as port:
        for path in ("/", "/whatever", "/ready?x=1"):
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                assert (answer.status, answer.read()) == (200, b"OK\n")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(st.dictionaries(texts, texts, max_size=5), st.binary(max_size=50))
def test_what_travels_arrives(carried: dict[str, str], stored: bytes):
    message: dict[bytes, bytes] = {}
    for name, value in carried.items():
        propagation.message_setter.set(message, name, value)
    body = payload.with_header(propagation.packed(message), b"p" + stored)
    assert propagation.unpacked(payload.header_of(body)) == message
    assert body.endswith(stored) and (carried or body == b"p" + stored)


@pytest.mark.parametrize(
    "body", [b"", b"t", b"t\0", b"t\0\0\0\xff", b"t\0\0\0\x02{", b"t\0\0\0\x02[]pnonsense"]
)
def test_a_garbled_header_is_no_trace_and_no_arguments(body: bytes):
    assert propagation.unpacked(payload.header_of(body)) == {}
    with pytest.raises(CannotLoad):
        payload.load_arguments(body)
