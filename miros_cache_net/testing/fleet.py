"""A fleet of hosts for a test."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, overload

from miros_cache_net.amqp.memory import MemoryBroker
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.settings import Settings
from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.testing.cable import Cable, FixedCable, ForwardedCable, MemoryCable, NetworkCable
from miros_cache_net.testing.host import Host
from miros_cache_net.testing.host_kinds import NamespaceHost, ProcessHost, ThreadHost
from miros_cache_net.testing.network import Network, NetworkHost
from miros_cache_net.testing.rabbit import RabbitServer
from miros_cache_net.testing.waiting import wait_until

Kind = Literal["thread", "process"]
#: Each host's settings unless a test gives others: a lost link is noticed and repaired within seconds.
_SETTINGS: Mapping[str, Any] = {"heartbeat_s": 2, "digest_interval_s": 2.0, "answer_timeout_s": 0.5}


class Fleet(Sequence[Host]):
    """Hosts that share documents through one broker, in the order in which they were added; a context manager.

        with Fleet(directory) as hosts:
            hosts.add("alpha")
            hosts[0].write({"a": 1})

    directory  contains a directory for each host
    broker     a `MemoryBroker` (None: a new one), a `RabbitServer`, or the URLs of one that cannot be cut off
    kind       of its hosts, unless `add` says otherwise: "thread" of this process, or "process"
    settings   of every host, by the names of `Settings`

    Each fleet has a key of its own, and on RabbitMQ an exchange of its own.
    """

    def __init__(
        self,
        directory: Path,
        broker: MemoryBroker | RabbitServer | str | None = None,
        *,
        kind: Kind = "thread",
        **settings: Any,
    ) -> None:
        self.broker = MemoryBroker() if broker is None else broker
        self._kind = kind
        self.key = generate_key().decode()
        self._directory = directory
        self._settings = {**_SETTINGS, "keys": self.key, "exchange": f"test.{secrets.token_hex(8)}", **settings}
        self._hosts: list[Host] = []
        self._cables: dict[str, Cable] = {}
        self._stack = ExitStack()

    @classmethod
    def in_namespaces(cls, count: int, directory: Path, **settings: Any) -> Fleet:
        """`count` hosts, each in a network namespace of its own, and a RabbitMQ that they all reach.

        `NetworkUnavailable` without root or the program `ip`.
        """
        fleet = cls(directory, **settings)
        try:
            network = fleet._stack.enter_context(Network(count))
            # `guest` may connect from anywhere: only the test's hosts are on that network.
            server = RabbitServer(config="loopback_users = none", address=network[0].tester_address)
            fleet.broker = fleet._stack.enter_context(server)
            for host in network:
                fleet.add(on=host)
        except BaseException:
            fleet.close()
            raise
        return fleet

    # --- its hosts --------------------------------------------------------------------------------------

    def add(
        self,
        name: str = "",
        *,
        start: bool = True,
        wait: bool = True,
        kind: Kind | None = None,
        on: NetworkHost | None = None,
        default: Mapping[str, Any] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        **settings: Any,
    ) -> Host:
        """Add a host; starts it unless `start` is False, and waits until it is in step unless `wait` is False.

        name      of the host; "": from its number in the fleet; an existing name: one more node on that host
        on        the namespace for its processes
        default   contents of its file until it is written or merged
        clock     the true time there, for a thread
        settings  of this host alone
        """
        name = name or f"host-{len(self)}"
        values = self._values(name, settings)
        cable = FixedCable(settings["amqp_urls"]) if "amqp_urls" in settings else self._cable(name, on)
        host: Host
        if on is not None:
            host = NamespaceHost(values, cable, on, default=default)
        elif (kind or self._kind) == "process":
            host = ProcessHost(values, cable, default=default)
        else:
            host = ThreadHost(values, cable, default=default, clock=clock)
        self._stack.callback(host.close)
        self._hosts.append(host)
        if start:
            host.start()
        if start and wait:
            host.wait_joined()
        return host

    def settings(self, name: str, **settings: Any) -> Settings:
        """The settings of a host of that name, which need not exist."""
        return Settings(**{**self._cable(name).settings, **self._values(name, settings)})

    def _values(self, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        directory = self._directory / name
        directory.mkdir(parents=True, exist_ok=True)
        return {**self._settings, "file": str(directory / "cache.json"), "node_name": name, **settings}

    def _cable(self, name: str, on: NetworkHost | None = None) -> Cable:
        """The cable of that host, which all its nodes share."""
        if name not in self._cables:
            self._cables[name] = cable = self._new_cable(on)
            self._stack.callback(cable.close)
        return self._cables[name]

    def _new_cable(self, on: NetworkHost | None) -> Cable:
        if isinstance(self.broker, MemoryBroker):
            return MemoryCable(self.broker)
        if isinstance(self.broker, str):
            return FixedCable(self.broker)
        return ForwardedCable(self.broker.url) if on is None else NetworkCable(on, self.broker.url)

    @overload
    def __getitem__(self, index: int) -> Host: ...
    @overload
    def __getitem__(self, index: slice) -> list[Host]: ...
    def __getitem__(self, index: int | slice) -> Host | list[Host]:
        return self._hosts[index]

    def __iter__(self) -> Iterator[Host]:
        return iter(self._hosts)

    def __len__(self) -> int:
        return len(self._hosts)

    # --- what they hold ---------------------------------------------------------------------------------

    def agree(
        self, *hosts: Host, on: Callable[[dict[str, Any]], object] = lambda _: True, timeout_s: float = 60.0
    ) -> None:
        """Wait until `hosts` (none given: all with a running node) have the same document, for which `on` is true.

        Raises AssertionError after `timeout_s`, which shows each host's document.
        """
        asked = hosts or [host for host in self if host.running]
        if not asked:
            raise AssertionError("no host of the fleet runs, so none can agree: call start() on them")

        def agreed() -> bool:
            return len({host.cache.read().version for host in asked}) == 1 and bool(on(asked[0].read()))

        try:
            wait_until(agreed, timeout_s=timeout_s)
        except AssertionError:
            lines = "\n  ".join(host.described() for host in asked)
            raise AssertionError(f"after {timeout_s:g} s the hosts do not agree as they should:\n  {lines}") from None

    # --- its end ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop all hosts.  Idempotent."""
        self._stack.close()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self.close()
