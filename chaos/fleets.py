"""Several real redis-servers that belong together: a cluster, and a master with its replica under a Sentinel."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from chaos.server import RedisServer
from docket import clock
from docket.store.servers import find_redis_server

SLOTS = 16384
_PATIENCE = 30.0


def wait_until(condition: Callable[[], object], what: str) -> None:
    give_up_at = clock.monotonic() + _PATIENCE
    while True:
        try:
            if condition():
                return
        except (redis.RedisError, OSError) as error:
            what = f"{what} ({error})"
        if clock.monotonic() > give_up_at:
            raise RuntimeError(f"waited in vain: {what[:500]}")
        time.sleep(0.02)


def free_port() -> int:
    """A port whose neighbour 10,000 further, a cluster's bus, is free as well."""
    for _ in range(1000):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            if port + 10_000 > 65_535:
                port -= 20_000
                try:
                    with socket.socket() as again:
                        again.bind(("127.0.0.1", port))
                except OSError:
                    continue
            try:
                second.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


@contextmanager
def running_cluster() -> Iterator[RedisCluster]:
    """Three masters, in a folder of their own; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="docket-", ignore_cleanup_errors=True) as folder:
        cluster = RedisCluster(Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


def ask(server: RedisServer, *command: Any) -> Any:
    with redis.Redis(unix_socket_path=server.socket_path, socket_timeout=5) as client:
        client.response_callbacks.clear()
        return client.execute_command(*command)


class RedisCluster:
    """Masters that share the slots, and at their side `replicas` of the first one."""

    def __init__(self, folder: Path, *, masters: int = 3, replicas: int = 0) -> None:
        self.nodes: list[RedisServer] = []
        for number in range(masters + replicas):
            (folder / str(number)).mkdir()
            # Short, so that a failover takes a second; a busy machine may keep a process from its answers for longer.
            more = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1500"]
            more += ["--cluster-replica-validity-factor", "0"]
            self.nodes.append(RedisServer(folder / str(number), port=free_port(), more=more))
        self.masters, self.replicas = self.nodes[:masters], self.nodes[masters:]

    @property
    def first_master(self) -> RedisServer:
        """The one that has a replica, if any has."""
        return self.masters[0]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        share = SLOTS // len(self.masters)
        for number, node in enumerate(self.masters):
            last = SLOTS if node is self.masters[-1] else (number + 1) * share
            ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            ask(node, "CLUSTER", "ADDSLOTS", *range(number * share, last))
        for node in self.nodes[1:]:
            ask(node, "CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        wait_until(self.is_whole, "the cluster is whole")
        for node in self.replicas:
            ask(node, "CLUSTER", "REPLICATE", self.id_of(self.masters[0]))
        for node in self.replicas:
            wait_until(
                lambda node=node: b"master_link_status:up" in ask(node, "INFO", "replication"), "replica"
            )
        wait_until(self.is_whole, "the cluster is whole with its replicas")

    def is_whole(self) -> bool:
        return all(
            b"cluster_state:ok" in ask(node, "CLUSTER", "INFO")
            and f"cluster_known_nodes:{len(self.nodes)}".encode() in ask(node, "CLUSTER", "INFO")
            and sum(b"slave" in line for line in ask(node, "CLUSTER", "NODES").splitlines())
            in (0, len(self.replicas))
            for node in self.nodes
            if node.process is not None
        )

    def id_of(self, node: RedisServer) -> str:
        return ask(node, "CLUSTER", "MYID").decode()

    def owner_of(self, name: str, *, seen_by: RedisServer | None = None) -> RedisServer:
        """Where the docket of this name lives."""
        slot = key_slot(f"{{{name}}}".encode())
        for first, last, master, *_ in ask(seen_by or self.nodes[-1], "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == master[1])
        raise RuntimeError(f"nobody has the slot {slot}")

    def name_on(self, node: RedisServer, stem: str) -> str:
        """A docket's name that begins with `stem` and lives on this node."""
        return next(
            name for name in (f"{stem}-{number}" for number in range(1000)) if self.owner_of(name) is node
        )

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()


class Watched:
    """A master, its replica, and one Sentinel that makes the replica master when the master is gone."""

    def __init__(self, folder: Path, *, service: str = "mymaster") -> None:
        self.folder, self.service = folder, service
        self.servers: list[RedisServer] = []
        for number in range(2):
            (folder / str(number)).mkdir()
            self.servers.append(
                RedisServer(folder / str(number), port=free_port(), more=["--repl-diskless-sync-delay", "0"])
            )
        self.master, self.replica = self.servers
        self.port = free_port()
        self.sentinel: subprocess.Popen[bytes] | None = None

    @property
    def first_master(self) -> RedisServer:
        return self.master

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.port}/{self.service}/0"

    def start(self) -> None:
        for server in self.servers:
            server.start()
        ask(self.replica, "REPLICAOF", "127.0.0.1", self.master.port)
        wait_until(lambda: b"master_link_status:up" in ask(self.replica, "INFO", "replication"), "replica")
        config = self.folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor {self.service} 127.0.0.1 {self.master.port} 1\n"
            f"sentinel down-after-milliseconds {self.service} 700\n"
            f"sentinel failover-timeout {self.service} 3000\n"
        )
        with open(self.folder / "sentinel.log", "ab") as log:
            self.sentinel = subprocess.Popen(
                [find_redis_server(), str(config), "--sentinel"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(
            lambda: b"slave0:" in self.ask_sentinel("INFO", "replication") or self._knows(), "sentinel"
        )

    def _knows(self) -> bool:
        return len(self.ask_sentinel("SENTINEL", "REPLICAS", self.service)) == 1

    def ask_sentinel(self, *command: Any) -> Any:
        with redis.Redis(port=self.port, socket_timeout=5) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def master_port(self) -> int:
        return int(self.ask_sentinel("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)[1])

    def wait_for_the_replica(self) -> None:
        """All that was written so far is on the replica, too."""
        wait_until(lambda: ask(self.master, "WAIT", 1, 1000) == 1, "replicated")

    def wait_for_failover(self) -> None:
        wait_until(lambda: self.master_port() == self.replica.port, "the replica has become master")

    def stop(self) -> None:
        if self.sentinel is not None:
            self.sentinel.kill()
            self.sentinel.wait()
        for server in self.servers:
            server.kill()
