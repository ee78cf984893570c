"""The connection of a test's host to its broker, and how a test cuts it."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from miros_cache_net.amqp.link import Link
from miros_cache_net.amqp.memory import MemoryBroker
from miros_cache_net.amqp.memory_link import MemoryLink
from miros_cache_net.errors import CacheNetError
from miros_cache_net.fleet.place import Place, document_topology
from miros_cache_net.settings import Settings
from miros_cache_net.testing.network import NetworkHost
from miros_cache_net.testing.tcp_forwarder import TcpForwarder

#: Nothing answers there: a host whose broker is in memory must not connect to a RabbitMQ on this machine.
_NOWHERE = "amqp://127.0.0.1:1"


class CannotCut(CacheNetError):
    """A host connects to its broker's own address, with nothing of the test in between."""


class Cable(Protocol):
    """`settings`: the settings with which a host uses this connection."""

    settings: dict[str, Any]

    def cut(self) -> None: ...

    def heal(self) -> None: ...

    def close(self) -> None: ...


class MemoryCable:
    """To the broker in this process; `link` is the `link_factory` for its nodes."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.settings: dict[str, Any] = {"amqp_urls": _NOWHERE}
        self._broker = broker
        self._lock = threading.Lock()
        self._links: list[MemoryLink] = []
        self._is_cut = False

    def link(self, settings: Settings, place: Place) -> Link:
        with self._lock:
            link = MemoryLink(self._broker, document_topology(place), connection_name=settings.node_name)
            self._links.append(link)
            if self._is_cut:
                self._broker.cut(link)
        return link

    def cut(self) -> None:
        with self._lock:
            self._is_cut = True
            for link in self._links:
                self._broker.cut(link)

    def heal(self) -> None:
        with self._lock:
            self._is_cut = False
            for link in self._links:
                self._broker.restore(link)

    def close(self) -> None: ...


class ForwardedCable:
    """To RabbitMQ on this machine, through one forwarder per URL; the URLs are separated by commas."""

    def __init__(self, urls: str) -> None:
        self._stack = ExitStack()
        self._forwarders: list[TcpForwarder] = []
        self.settings: dict[str, Any] = {"amqp_urls": ",".join(self._forwarded(url) for url in urls.split(","))}

    def _forwarded(self, url: str) -> str:
        parts = urlsplit(url)
        forwarder = self._stack.enter_context(TcpForwarder(parts.port or 5672, host=parts.hostname or "127.0.0.1"))
        self._forwarders.append(forwarder)
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{forwarder.port}"))

    def cut(self) -> None:
        for forwarder in self._forwarders:
            forwarder.refuse()

    def heal(self) -> None:
        for forwarder in self._forwarders:
            forwarder.accept()

    def close(self) -> None:
        self._stack.close()


class NetworkCable:
    """The cable of a host on a network of its own: while it is cut, packets vanish without a refusal."""

    def __init__(self, host: NetworkHost, urls: str) -> None:
        self.settings: dict[str, Any] = {"amqp_urls": urls}
        self._host = host

    def cut(self) -> None:
        self._host.unplug()

    def heal(self) -> None:
        self._host.plug_in()

    def close(self) -> None: ...


class FixedCable:
    """The broker's own address, with nothing in between."""

    def __init__(self, urls: str) -> None:
        self.settings: dict[str, Any] = {"amqp_urls": urls}

    def cut(self) -> None:
        raise CannotCut("a host with the URLs of its broker cannot be cut off: give its fleet a RabbitServer")

    def heal(self) -> None: ...

    def close(self) -> None: ...
