"""Links of one process share two connections, and nothing else: what befalls one of them is no other's business."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from miros_cache_net.amqp.connection import RabbitLink
from miros_cache_net.amqp.link import Link, Publication
from miros_cache_net.amqp.topology import Exchange, Topology
from miros_cache_net.errors import BrokerUnreachable, ExchangeConflict, TopologyLost, VhostRefused
from miros_cache_net.fleet.place import Place, document_topology
from miros_cache_net.settings.broker_address import BrokerAddress
from miros_cache_net.testing import RabbitServer, TcpForwarder, wait_until
from tests.integration.link_contract import LinkContract, Recorder, Rig, acquired, mesh, talk
from tests.integration.rabbit_links import NewSockets, channel_to, is_up, told
from tests.integration.test_amqp_link import QUICK, RabbitRig
from tests.threads import NewThreads


class SharingRig(RabbitRig):
    """Each link stands on the connections of another, which no test knows of, and only a dying broker disturbs."""

    def __init__(self, server: RabbitServer) -> None:
        super().__init__(server)
        self.companions: list[Recorder] = []

    def make(self, topology: Topology) -> Link:
        share, companion = object(), Recorder()
        elsewhere = document_topology(self.place(exchange=f"{self.exchange}.companion"))
        other = RabbitLink(elsewhere, [self.address], options=QUICK, share=share)
        self._links.append(other)
        self.companions.append(companion)
        other.start(companion)
        companion.wait(ups=1, timeout_s=60)
        return RabbitLink(topology, [self.address], options=QUICK, share=share)


class TestSharingLink(LinkContract):
    @pytest.fixture
    def rig(self, rabbit_server: RabbitServer, rabbit_url: str) -> Iterator[Rig]:
        rig = SharingRig(rabbit_server)
        yield rig
        rig.close()
        assert {type(error) for companion in rig.companions for error in companion.downs} <= {BrokerUnreachable}

    # their companions' threads stay
    test_stop_sends_what_waits_and_leaves_no_thread = None
    test_a_link_stopped_by_its_own_listener_ends = None


Share = Callable[..., tuple[RabbitLink, Recorder]]


@pytest.fixture
def share(place: Place) -> Iterator[Share]:
    """Starts links that share connections: of a document each, or of a topology."""
    links: list[RabbitLink] = []

    def start(url: str, what: str | Topology, *, serve: bool = False) -> tuple[RabbitLink, Recorder]:
        topology = document_topology(Place(place.exchange, place.scope, what)) if isinstance(what, str) else what
        link, recorder = RabbitLink(topology, [BrokerAddress.parse(url)], options=QUICK, share="a fleet"), Recorder()
        links.append(link)
        link.serve_requests(serve)
        link.start(recorder)
        return link, recorder

    yield start
    for link in links:
        link.stop()


def test_five_links_share_two_connections_and_a_thread(
    rabbit_server: RabbitServer, rabbit_url: str, share: Share
) -> None:
    sockets, threads = NewSockets(rabbit_server.port), NewThreads()
    links = [share(rabbit_url, f"document {number}") for number in range(5)]
    for _, recorder in links:
        is_up(recorder)
    assert sockets.count() == 2
    assert len(threads.names()) == 1
    for number, (link, _) in enumerate(links):
        for heir, at_heir in links[number:]:
            heir.publish(Publication(b"to myself", queue=at_heir.own_queue))
            at_heir.wait(deliveries=number + 1)
        link.stop()
        assert sockets.count() == (2 if number < 4 else 0)
    assert threads.names() == []
    assert all(recorder.order.count("up") == 1 and not recorder.downs for _, recorder in links)


def test_stopped_link_leaves_nothing_at_the_broker(rabbit_server: RabbitServer, rabbit_url: str, share: Share) -> None:
    (_, at_stays), (leaves, at_leaves) = share(rabbit_url, "stays"), share(rabbit_url, "leaves", serve=True)
    is_up(at_stays)
    is_up(at_leaves)
    assert acquired(leaves)
    leaves.stop()

    def queues() -> str:
        return rabbit_server.ctl("list_queues", "name")

    wait_until(lambda: at_leaves.own_queue not in queues() and "lease" not in queues(), what="its queues to be gone")
    assert at_stays.own_queue in queues()


def test_lease_asked_for_during_stop_is_given_back(rabbit_server: RabbitServer, rabbit_url: str, share: Share) -> None:
    is_up(share(rabbit_url, "stays")[1])
    for _ in range(10):
        leaves, recorder = share(rabbit_url, "leaves")
        is_up(recorder)
        leaves.acquire_lease(lambda _held: None)
        leaves.stop()
    wait_until(lambda: "lease" not in rabbit_server.ctl("list_queues", "name"), what="the lease to be free")


def test_same_topology_twice_has_separate_connections(
    rabbit_server: RabbitServer, rabbit_url: str, share: Share
) -> None:
    sockets = NewSockets(rabbit_server.port)
    (alpha, at_alpha), (beta, at_beta) = share(rabbit_url, "cache"), share(rabbit_url, "cache")
    is_up(at_alpha)
    is_up(at_beta)
    assert sockets.count() == 4
    assert acquired(alpha) and not acquired(beta), "an exclusive queue belongs to a connection"
    talk(alpha, at_beta, b"news")


def test_topologies_without_lease_share_their_connections(
    rabbit_server: RabbitServer, rabbit_url: str, share: Share, place: Place
) -> None:
    sockets, sending = (
        NewSockets(rabbit_server.port),
        Topology((Exchange(f"{place.exchange}.mesh", durable=False),), None),
    )
    for _ in range(2):
        is_up(share(rabbit_url, sending)[1])
    assert sockets.count() == 1
    (alpha, at_alpha), (_, at_beta) = (share(rabbit_url, mesh(place.exchange, "#")) for _ in range(2))
    is_up(at_alpha)
    is_up(at_beta)
    assert sockets.count() == 2
    alpha.publish(Publication(b"event", f"{place.exchange}.mesh", "a"))
    at_beta.wait(deliveries=1)
    assert at_alpha.order == ["up"]


def test_refusal_of_one_link_disturbs_no_other(
    rabbit_server: RabbitServer, rabbit_url: str, share: Share, place: Place
) -> None:
    _, at_document = share(rabbit_url, "cache")
    is_up(at_document)
    foreign = mesh(place.exchange, "#").exchanges[0].name
    with channel_to(rabbit_url) as channel:
        channel.exchange_declare(foreign, "fanout")
    _, at_mesh = share(rabbit_url, mesh(place.exchange, "#"))
    assert told(at_mesh, ExchangeConflict).fatal
    later, at_later = share(rabbit_url, "later")
    is_up(at_later)
    rabbit_server.ctl("delete_queue", at_later.own_queue)
    is_up(at_later, 2)
    assert [type(error) for error in at_later.downs] == [TopologyLost]
    assert at_document.order == ["up"] and not at_mesh.ups
    later.publish(Publication(b"after", queue=at_later.own_queue))
    at_later.wait(deliveries=1)


def test_missing_rights_of_one_link_are_awaited(rabbit_server: RabbitServer, share: Share, place: Place) -> None:
    user = "half-the-rights"
    url = rabbit_server.add_user(user, "pw")
    rabbit_server.ctl("set_permissions", user, ".*", ".*", rf"^(?!{place.exchange}\.mesh).*")
    _, at_document = share(url, "cache")
    is_up(at_document)
    before = rabbit_server.ctl("list_queues", "name").count("amq.gen")
    sockets = NewSockets(rabbit_server.port)
    _, at_mesh = share(url, mesh(place.exchange, "#"))
    told(at_mesh, VhostRefused)
    # time for more attempts: another user's link comes and goes
    for _ in range(3):
        other, recorder = share(rabbit_server.url, "another")
        is_up(recorder)
        other.stop()
    wait_until(lambda: rabbit_server.ctl("list_queues", "name").count("amq.gen") == before, what="no queue to be left")
    rabbit_server.ctl("set_permissions", user, ".*", ".*", ".*")
    is_up(at_mesh)
    assert at_mesh.order == ["down", "up"] and at_document.order == ["up"]
    assert sockets.count() == 0


def test_cut_is_told_to_links_and_all_return(rabbit_server: RabbitServer, rabbit_url: str, share: Share) -> None:
    with TcpForwarder(rabbit_server.port) as forwarder:
        url = f"amqp://guest:guest@127.0.0.1:{forwarder.port}"
        recorders = [share(url, f"document {number}")[1] for number in range(3)]
        for recorder in recorders:
            is_up(recorder)
        forwarder.refuse()
        for recorder in recorders:
            told(recorder, BrokerUnreachable)
        late = share(url, "late")[1]
        told(late, BrokerUnreachable)
        forwarder.accept()
        for recorder in recorders:
            is_up(recorder, 2)
            assert recorder.order == ["up", "down", "up"]
        is_up(late)
        assert late.order == ["down", "up"]


FORKING = """
import os, sys, threading
from miros_cache_net.amqp.connection import RabbitLink
from miros_cache_net.fleet.place import Place, document_topology
from miros_cache_net.settings.broker_address import BrokerAddress

class Listener:
    def __init__(self):
        self.up = threading.Event()
    def link_up(self, up):
        self.up.set()
    def link_down(self, error): ...
    def delivered(self, delivery): ...

def started(document):
    listener = Listener()
    link = RabbitLink(document_topology(Place("forking", "s", document)), [BrokerAddress.parse(sys.argv[1])], share="f")
    link.start(listener)
    assert listener.up.wait(30)
    return link

first = started("one")
child = os.fork()
second = started("two")
second.stop()
if not child:
    first.stop()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
first.stop()
"""


def test_forked_child_shares_no_link_with_its_parent(rabbit_server: RabbitServer, rabbit_url: str) -> None:
    subprocess.run([sys.executable, "-c", FORKING, rabbit_url], check=True, timeout=120)
