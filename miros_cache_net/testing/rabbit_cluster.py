"""A RabbitMQ cluster of one's own, on this machine."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from miros_cache_net.testing.rabbit import RabbitFailed, RabbitServer
from miros_cache_net.testing.rabbit_files import free_port
from miros_cache_net.testing.waiting import wait_until


class RabbitCluster:
    """`size` private servers that form one cluster; as a context manager it starts and ends them all.

        with RabbitCluster(3) as cluster:
            cluster.servers[0].kill()

    Each member of `servers` can be killed, paused and restarted like any `RabbitServer`; `urls` names them all.
    Raises `RabbitFailed` where they do not find each other.
    """

    def __init__(self, size: int = 3, *, config: str = "") -> None:
        epmd_port, cookie = free_port(), secrets.token_hex(16)
        self.servers = [RabbitServer() for _ in range(size)]
        names = [server.node_name for server in self.servers]
        discovery = "cluster_formation.peer_discovery_backend = rabbit_peer_discovery_classic_config\n"
        discovery += "".join(
            f"cluster_formation.classic_config.nodes.{number} = {name}\n" for number, name in enumerate(names, 1)
        )
        for server in self.servers:
            server.join_cluster(epmd_port, cookie, discovery + config)

    @property
    def urls(self) -> str:
        """All members, divided by commas, as the setting ``MIROS_CACHE_AMQP_URL`` takes them."""
        return ",".join(server.url for server in self.servers)

    def start(self) -> RabbitCluster:
        """Start all members at once; returns when every one sees all others."""
        with ThreadPoolExecutor(len(self.servers)) as pool:
            list(pool.map(RabbitServer.start, self.servers))
        try:
            wait_until(self._is_formed, timeout_s=60, what="the cluster to form")
        except AssertionError as error:
            self.close()
            raise RabbitFailed(str(error)) from None
        return self

    def close(self) -> None:
        """End all members and remove their files."""
        for server in self.servers:
            server.close()

    def _is_formed(self) -> bool:
        status = self.servers[0].ctl("cluster_status", "--formatter", "json")
        running = status.partition('"running_nodes":')[2].partition("]")[0]
        return all(server.node_name in running for server in self.servers)

    def __enter__(self) -> RabbitCluster:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self.close()
