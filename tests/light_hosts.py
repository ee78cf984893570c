"""Hosts without charts and files, many in one thread: the real bridge, gate, replica and link, a document in memory."""

from __future__ import annotations

import itertools
import queue
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from miros_cache_net.clock import SYSTEM_CLOCK
from miros_cache_net.document.value import Document, next_stamp
from miros_cache_net.errors import Reason
from miros_cache_net.fleet import node_events
from miros_cache_net.fleet.bridge import Bridge
from miros_cache_net.fleet.links import LinkFactory
from miros_cache_net.fleet.place import place_of
from miros_cache_net.observe.registry import Registry
from miros_cache_net.settings import Settings
from miros_cache_net.wire.keyring import open_ring


class LightHosts:
    """One thread on which all hosts live, as each would on its node's chart."""

    def __init__(self, settings: Settings, link_factory: LinkFactory) -> None:
        self.settings = settings
        self.link_factory = link_factory
        self.rings = open_ring(settings)
        self.hosts: list[LightHost] = []
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="light hosts")

    def __enter__(self) -> LightHosts:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            host.bridge.stop()
        self._work.put(None)
        self._thread.join()

    def start(self, count: int) -> list[LightHost]:
        made = [LightHost(self, f"host-{len(self.hosts) + number}") for number in range(count)]
        self.hosts += made
        for host in made:
            host.bridge.start()
        return made

    def post(self, work: Callable[[], None]) -> None:
        self._work.put(work)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()


class LightHost:
    """One host: the owner of a `Bridge`."""

    _tickets = itertools.count()

    def __init__(self, hosts: LightHosts, name: str) -> None:
        self._hosts = hosts
        self.name = name
        self.document = Document.unwritten({})
        self.in_sync = False
        settings = hosts.settings
        self.registry = Registry()
        self.bridge = Bridge(
            self,
            settings,
            place_of(settings, Path("cache.json")),
            file=settings.file,
            node=lambda: name,
            rings=hosts.rings,
            clock=SYSTEM_CLOCK,
            rng=random.Random(name),
            link_factory=hosts.link_factory,
            registry=self.registry,
        )

    def write(self, contents: dict[str, Any]) -> None:
        def work() -> None:
            now_ms = SYSTEM_CLOCK.wall_ms()
            last = max(self.document.last_stamp, self.document.floor.stamp)
            self._store(self.document.written(contents, next_stamp(last, now_ms, self.name), now_ms))

        self._hosts.post(work)

    # --- BridgeOwner --------------------------------------------------------------------------------

    def bridge_event(self, name: str, payload: Any = None) -> None:
        if name == node_events.JOINED:
            self._hosts.post(self._joined)
        else:
            self._hosts.post(lambda: self.bridge.handle(name, payload))

    def bridge_event_later(self, name: str, payload: Any, delay_s: float) -> Callable[[], None]:
        timer = threading.Timer(delay_s, self.bridge_event, (name, payload))
        timer.daemon = True
        # a digest is not what these tests are about, and a thread for each is too many
        if payload != "digest":
            timer.start()
        return timer.cancel

    def held(self) -> Document:
        return self.document

    def merge(self, document: Document, node: str) -> None:
        self._hosts.post(lambda: self._store(self.document.merged(document)))

    def report(self, reason: Reason, message: str) -> None:
        pass

    def status(self) -> dict[str, Any]:
        return {"node": self.name}

    def _joined(self) -> None:
        self.in_sync = True

    def _store(self, document: Document) -> None:
        if document is not self.document:
            self.document = document
            self.bridge.local_changed(document)
