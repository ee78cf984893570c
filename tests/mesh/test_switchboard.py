"""Which brokers a chart's networks send to."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from miros.event import Event

from miros_cache_net import CacheNode
from miros_cache_net.amqp.link import LinkUp, Publication
from miros_cache_net.amqp.topology import Topology
from miros_cache_net.clock import SYSTEM_CLOCK
from miros_cache_net.mesh import discovery
from miros_cache_net.mesh.addresses import where_it_runs
from miros_cache_net.mesh.config import Keys, RoutingKeys
from miros_cache_net.mesh.nets import Nets
from miros_cache_net.mesh.switchboard import Switchboard
from miros_cache_net.settings import Settings
from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.testing import wait_until
from tests.threads import logged_here

PEERS = ["10.1.1.2", "10.1.1.3"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("127.0.0.1", "::1", True),
        ("10.1.1.2", "::ffff:10.1.1.2", True),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("10.1.1.2", "10.1.1.3", False),
        ("fd00::5", "fd00::6", False),
        ("127.0.0.1", "10.1.1.2", False),
    ],
)
def test_a_broker_is_known_by_its_dialled_address(one: str, other: str, same: bool) -> None:
    assert (where_it_runs(one) == where_it_runs(other)) is same


class Link:
    """Stands at once, and keeps what it is given."""

    def __init__(self, host: str) -> None:
        self._host = host
        self.given: list[Publication] = []

    def start(self, listener: Any) -> None:
        listener.link_up(LinkUp("amq.gen-x", None, "a broker", self._host))

    def publish(self, publication: Publication) -> None:
        self.given.append(publication)
        if publication.done is not None:
            publication.done(True)

    def stop(self) -> None: ...


class Known:
    """A discovery that has found the peers already."""

    def join(self, settings: Settings, told: Any, make_node: Any) -> Known:
        told(PEERS, True)
        return self

    def leave(self, found: Any, told: Any) -> None: ...

    def peers(self) -> list[str]:
        return PEERS


@pytest.mark.parametrize("sender", ["", "203.0.113.7"])
def test_a_named_sender_keeps_no_broker_from_its_messages(sender: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "OF_THIS_PROCESS", Known())
    links: dict[str, Link] = {}

    def make(_settings: Settings, peer: str, topology: Topology) -> Any:
        return links.setdefault(peer, Link(peer or "10.1.1.1"))

    key = generate_key()
    settings = Settings(
        keys=[key.decode()], amqp_urls="amqp://u:p@10.1.1.1", trusted_networks="10.0.0.0/8", mesh_sender=sender
    )
    chart: Any = Mock()
    board = Switchboard(settings, SYSTEM_CLOCK, lambda error: None, CacheNode, make)
    nets = Nets(chart, settings, Keys(key, key, key), RoutingKeys("a", "a"), switchboard=board)
    nets.start()
    try:

        def all_get_many() -> bool:
            nets.transmit(Event(signal="HELLO", payload=1))
            return [len(links[peer].given) > 50 for peer in ("", *PEERS) if peer in links] == [True] * 3

        wait_until(all_get_many, what="all to go on getting them")
    finally:
        nets.stop()


@pytest.mark.parametrize(
    ("dialled", "sender", "warns"),
    [("fd00::5", "", True), ("fd00::5", "203.0.113.7", False), ("::ffff:10.1.1.2", "", False), ("10.1.1.2", "", False)],
)
def test_broker_dialled_by_ipv6_is_warned_of(
    dialled: str, sender: str, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    settings = Settings(keys=[generate_key().decode()], amqp_urls="amqp://u:p@10.1.1.1", mesh_sender=sender)
    around = Switchboard(settings, SYSTEM_CLOCK, lambda error: None, CacheNode).surroundings(tells=True)
    around.sender(dialled)
    around.sender(dialled)
    assert ["MIROS_CACHE_MESH_SENDER" in each.getMessage() for each in logged_here(caplog)] == [True] * warns


class Denied(Link):
    """A link for which the process has no descriptor."""

    def start(self, listener: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")


def test_peer_whose_link_was_denied_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Known()
    told: list[Any] = []
    monkeypatch.setattr(known, "join", lambda _settings, listener, _make_node: told.append(listener) or known)
    monkeypatch.setattr(discovery, "OF_THIS_PROCESS", known)
    made: list[tuple[str, Link]] = []

    def make(_settings: Settings, peer: str, topology: Topology) -> Any:
        is_first = bool(peer) and peer not in [each for each, _ in made]
        made.append((peer, Denied(peer) if is_first else Link(peer or "10.1.1.1")))
        return made[-1][1]

    key = generate_key()
    settings = Settings(keys=[key.decode()], amqp_urls="amqp://u:p@10.1.1.1", trusted_networks="10.0.0.0/8")
    board = Switchboard(settings, SYSTEM_CLOCK, lambda error: None, CacheNode, make)
    nets = Nets(Mock(), settings, Keys(key, key, key), RoutingKeys("a", "a"), switchboard=board)
    nets.start()
    try:
        (tell,) = told
        tell(PEERS, True)
        wait_until(lambda: {peer for peer, _ in made} == {"", *PEERS}, what="both to be tried")
        tell(PEERS, True)
        wait_until(lambda: [peer for peer, _ in made].count(PEERS[-1]) == 2, what="both to be tried again")
        tell(PEERS, True)
        assert sorted(peer for peer, _ in made) == ["", *sorted(PEERS * 2)], "a peer that has a link gets no other"
    finally:
        nets.stop()


@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
def test_forked_child_has_no_discovery_of_its_parent() -> None:
    parents = discovery.OF_THIS_PROCESS
    found = discovery.Discovery(Settings(keys=[generate_key().decode()]), Path("unused.json"), CacheNode)
    parents._running.append(found)
    parents._lock.acquire()  # as by another of the parent's threads at that moment
    try:
        child = os.fork()
        if not child:
            os._exit(0 if not parents._running and parents._lock.acquire(blocking=False) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert parents._running == [found]
    finally:
        parents._lock.release()
        parents._running.remove(found)
