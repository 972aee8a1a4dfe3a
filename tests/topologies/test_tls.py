"""rediss+cluster:// and rediss+sentinel://: every connection is encrypted and checked, those that ask the way too."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from chaos.fleets import SLOTS, ask, free_port, wait_until
from docket import ConnectionFailed, Docket
from docket import sync as blocking
from docket.store.servers import find_redis_server
from tests.redis_server import RedisServer
from tests.runtime.support import work_off


async def double(number: int) -> int:
    return number * 2


def _speaks_tls(binary: str) -> bool:
    """A server that was built without TLS does not know the option, and ends."""
    with tempfile.TemporaryDirectory(prefix="docket-") as folder:
        tried = subprocess.run(
            [binary, "--port", "0", "--tls-port", "0", "--dir", folder, "--logfile", "/no/such/folder/log"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    return "tls-port" not in tried.stdout + tried.stderr


@pytest.fixture(autouse=True)
def server_with_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    for binary in (find_redis_server(), shutil.which("redis-server")):
        if binary is not None and os.access(binary, os.X_OK) and _speaks_tls(binary):
            monkeypatch.setenv("DOCKET_REDIS_SERVER", binary)
            return
    pytest.skip("no redis-server here was built with TLS")


@pytest.fixture
def certificate(short_folder: Path) -> Path:
    """Of 127.0.0.1, signed by itself; its key lies beside it."""
    made = short_folder / "tls.crt"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=docket",
            ),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", short_folder / "tls.key", "-out", made),
        ],
        check=True,
        capture_output=True,
    )
    return made


def options(certificate: Path, port: int) -> list[str]:
    return [
        *("--tls-port", str(port), "--tls-auth-clients", "no", "--tls-replication", "yes"),
        *("--tls-cert-file", str(certificate), "--tls-key-file", str(certificate.with_suffix(".key"))),
        *("--tls-ca-cert-file", str(certificate)),
    ]


@pytest.fixture
def cluster_url(short_folder: Path, certificate: Path) -> Iterator[str]:
    """A cluster of one node, which nobody reaches without TLS."""
    port = free_port()
    more = [*options(certificate, port), "--cluster-enabled", "yes", "--tls-cluster", "yes"]
    (short_folder / "node").mkdir()
    server = RedisServer(short_folder / "node", more=more)
    server.start()
    try:
        ask(server, "CLUSTER", "ADDSLOTS", *range(SLOTS))
        ask(server, "CONFIG", "SET", "cluster-announce-ip", "127.0.0.1")
        wait_until(lambda: b"cluster_state:ok" in ask(server, "CLUSTER", "INFO"), "the cluster is whole")
        yield f"rediss+cluster://127.0.0.1:{port}"
    finally:
        server.kill()


@pytest.fixture
def sentinel_url(short_folder: Path, certificate: Path) -> Iterator[str]:
    master_port, port = free_port(), free_port()
    (short_folder / "master").mkdir()
    server = RedisServer(short_folder / "master", more=options(certificate, master_port))
    config = short_folder / "sentinel.conf"
    config.write_text(
        f"port 0\nbind 127.0.0.1\ndir {short_folder}\n"
        + "".join(f"{name[2:]} {value}\n" for name, value in _pairs(options(certificate, port)))
        + f"sentinel monitor mymaster 127.0.0.1 {master_port} 1\n"
    )
    server.start()
    sentinel = subprocess.Popen([find_redis_server(), str(config), "--sentinel"], stdout=subprocess.DEVNULL)

    def answers() -> Any:
        with redis.Redis(port=port, ssl=True, ssl_cert_reqs="none", socket_timeout=5) as client:
            return client.ping()

    try:
        wait_until(answers, "sentinel")
        yield f"rediss+sentinel://127.0.0.1:{port}/mymaster"
    finally:
        sentinel.kill()
        sentinel.wait()
        server.kill()


def _pairs(flat: list[str]) -> Iterator[tuple[str, str]]:
    yield from zip(flat[::2], flat[1::2], strict=True)


@pytest.mark.parametrize("which", ["cluster_url", "sentinel_url"])
async def test_tasks_run_over_tls(
    which: str, certificate: Path, docket_name: str, request: pytest.FixtureRequest
):
    url = f"{request.getfixturevalue(which)}?ssl_ca_certs={certificate}"
    async with Docket(name=docket_name, url=url) as docket:
        execution = await docket.add(double)(4)
        await work_off(docket)
        with blocking.Docket(name=docket_name, url=url) as same:
            found = same.get_execution(execution.key)
            assert found is not None and found.get_result() == 8
            with same.redis() as client:
                assert client.ping()
        async with docket.redis() as client:
            assert await client.ping()


@pytest.mark.parametrize("which", ["cluster_url", "sentinel_url"])
async def test_a_certificate_that_nobody_vouches_for_is_refused(
    which: str, docket_name: str, request: pytest.FixtureRequest
):
    async with Docket(name=docket_name, url=request.getfixturevalue(which)) as docket:
        with pytest.raises(ConnectionFailed, match=r"(?i)certificate verify failed"):
            await docket.add(double)(4)
