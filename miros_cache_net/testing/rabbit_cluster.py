"""A private RabbitMQ cluster on this machine.  Imported on demand; `RabbitServer` does not depend on it."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final

from miros_cache_net.testing.rabbit import RabbitFailed, RabbitServer
from miros_cache_net.testing.rabbit_files import free_port
from miros_cache_net.testing.waiting import wait_until

#: A member that comes back waits for the tables of the others, in tries of 30 s.
_START_S: Final = 180.0


class RabbitCluster:
    """`size` private servers that form one cluster; as a context manager it starts and ends them all.

        with RabbitCluster(3) as cluster:
            cluster.servers[0].kill()

    Each member of `servers` can be killed, paused and restarted like any `RabbitServer`, and cut off from the others;
    `urls` names them all.  Raises `RabbitFailed` if they do not find each other.
    """

    def __init__(self, size: int = 3, *, config: str = "") -> None:
        epmd_port, cookie = free_port(), secrets.token_hex(16)
        self.servers = [RabbitServer(start_timeout_s=_START_S) for _ in range(size)]
        names = [server.node_name for server in self.servers]
        discovery = "cluster_formation.peer_discovery_backend = rabbit_peer_discovery_classic_config\n"
        discovery += "".join(
            f"cluster_formation.classic_config.nodes.{number} = {name}\n" for number, name in enumerate(names, 1)
        )
        for server in self.servers:
            server.join_cluster(epmd_port, cookie, discovery + config)

    @property
    def urls(self) -> str:
        """All members' URLs, separated by commas, for the setting ``MIROS_CACHE_AMQP_URL``."""
        return ",".join(server.url for server in self.servers)

    def start(self) -> RabbitCluster:
        """Start all members at once; returns once each sees all others."""
        with ThreadPoolExecutor(len(self.servers)) as pool:
            list(pool.map(RabbitServer.start, self.servers))
        try:
            self.wait_whole()
        except AssertionError as error:
            self.close()
            raise RabbitFailed(str(error)) from None
        return self

    def close(self) -> None:
        """End all members and remove their files."""
        for server in self.servers:
            server.close()

    def handle_partitions(self, how: str) -> None:
        """Set ``cluster_partition_handling`` on all members, which must run; lasts until their next start."""
        self._on_all(f"rpc:call(N, application, set_env, [rabbit, cluster_partition_handling, {how}])")

    def cut_off(self, number: int) -> None:
        """Break the network between one member and the others until `join_again`; clients still reach it."""
        self._for_peers(number, "erlang:set_cookie(P, cut), erlang:disconnect_node(P)")

    def join_again(self, number: int) -> None:
        """Undo `cut_off`.  What the members do then depends on their partition handling."""
        self._for_peers(number, "erlang:set_cookie(P, erlang:get_cookie())")

    def seen_by(self, number: int) -> set[int]:
        """The members, by their index in `servers`, to which one member is connected, including itself."""
        seen = self.servers[number].ctl("eval", "[node() | nodes()].")
        return {place for place, server in enumerate(self.servers) if server.node_name in seen}

    def wait_whole(self, timeout_s: float = 180) -> None:
        """Wait until every member runs, sees all others, and remembers no partition.  AssertionError on time-out."""
        wait_until(self._is_whole, timeout_s=timeout_s, what="the cluster to be whole")

    def wait_without(self, number: int, timeout_s: float = 60) -> None:
        """Wait until the other members have noticed that one is away.  AssertionError on time-out."""
        others = {place for place in range(len(self.servers)) if place != number}
        wait_until(
            lambda: all(self.seen_by(other) == others for other in others),
            timeout_s=timeout_s,
            what=f"the others to be without member {number}",
        )

    def _is_whole(self) -> bool:
        look = "{rpc:call(N, rabbit, is_running, []), length(rpc:call(N, erlang, nodes, [])), "
        look += "rpc:call(N, rabbit_node_monitor, partitions, [])}"
        try:
            seen = self._on_all(look)
        except RabbitFailed:
            return False
        return "".join(seen.split()).count(f"{{true,{len(self.servers) - 1},[]}}") == len(self.servers)

    def _on_all(self, expression: str) -> str:
        """The values of an expression for each member N, in Erlang's notation."""
        return self.servers[0].ctl("eval", f"[{expression} || N <- [{self._names(self.servers)}]].")

    def _for_peers(self, number: int, expression: str) -> None:
        peers = [server for server in self.servers if server is not self.servers[number]]
        self.servers[number].ctl("eval", f"[begin {expression} end || P <- [{self._names(peers)}]].")

    @staticmethod
    def _names(servers: list[RabbitServer]) -> str:
        return ", ".join(f"'{server.node_name}'" for server in servers)

    def __enter__(self) -> RabbitCluster:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self.close()
