"""Where one worker answers over HTTP: whether it is well, and what it has counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from typing import Any

from docket import telemetry
from docket_runtime.settings import LOOPBACK

Checks = Mapping[str, Callable[[], str]]
"""Path → what is wrong there, in a sentence; an empty text if nothing is. `""` answers for all other paths."""


class CannotListen(OSError):
    """The port is taken, or the host is none of this machine."""


NEEDS_OTEL = "metrics need OpenTelemetry: pip install 'docket-runtime[otel]'"


@contextmanager
def _listening(host: str, port: int) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise CannotListen(f"cannot listen on {host} port {port}: {error}") from error


def _well() -> str:
    return ""


@contextmanager
def healthcheck_server(
    host: str = LOOPBACK, port: int | None = None, checks: Checks | None = None
) -> Generator[int | None]:
    """Answers 200 or 503 in a thread of its own, so also while the event loop is blocked; yields the port (0: a free
    one is taken, None: nothing is opened). Without checks, whoever answers is well. CannotListen (an OSError) if the
    port is taken."""
    if port is None:
        yield None
        return
    asked = {"": _well} if checks is None else checks

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0].rstrip("/")
            problem = (asked.get(path) or asked[""])()
            body = f"{problem or 'OK'}\n".encode()
            self.send_response(503 if problem else 200)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """A probe every second is no news."""

    with _listening(host, port):
        server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="docket health", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def metrics_server(host: str = LOOPBACK, port: int | None = None) -> Generator[int | None]:
    """Shows what is counted from now on as Prometheus reads it, with whatever else `prometheus_client` knows; yields
    the port. If no meter provider is configured, one is. ImportError with a sentence if `docket-runtime[otel]` is not
    installed, CannotListen (an OSError) if the port is taken."""
    if port is None:
        yield None
        return
    try:
        exporter = import_module("opentelemetry.exporter.prometheus")
        sdk = import_module("opentelemetry.sdk.metrics")
        client = import_module("prometheus_client")
    except ImportError as error:
        raise ImportError(NEEDS_OTEL) from error
    with _listening(host, port):
        server, thread = client.start_http_server(port, addr=host)
    try:
        reader = exporter.PrometheusMetricReader()
        if telemetry.metering():
            # Somebody's own: what it counts is shown as well.
            import_module("opentelemetry.metrics").get_meter_provider().add_metric_reader(reader)
        else:
            import_module("opentelemetry.metrics").set_meter_provider(sdk.MeterProvider([reader]))
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
