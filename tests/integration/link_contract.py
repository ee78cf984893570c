"""What every `Link` promises, whatever is behind it: the same checks for the real and the in-memory broker.

A test module subclasses `LinkContract` and provides the fixture `rig`.
"""

from __future__ import annotations

import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.amqp.connection import RabbitLink
from miros_cache_net.amqp.link import Delivery, Link, LinkUp, Publication
from miros_cache_net.amqp.memory_link import MemoryLink
from miros_cache_net.amqp.topology import Binding, Exchange, Queue, Topology
from miros_cache_net.errors import BrokerError, BrokerUnreachable, ExchangeConflict, TopologyLost, Unroutable
from miros_cache_net.fleet.place import Place, document_topology, parse_routing_key, request_queue_name, routing_key
from miros_cache_net.testing import wait_until
from tests.threads import NewThreads


class Recorder:
    """A listener that remembers what it is told, and on which thread."""

    def __init__(self) -> None:
        self.ups: list[LinkUp] = []
        self.downs: list[BrokerError] = []
        self.deliveries: list[Delivery] = []
        self.threads: set[threading.Thread] = set()
        self.order: list[str] = []

    def link_up(self, up: LinkUp) -> None:
        self._note("up")
        self.ups.append(up)

    def link_down(self, error: BrokerError) -> None:
        self._note("down")
        self.downs.append(error)

    def delivered(self, delivery: Delivery) -> None:
        self._note("delivered")
        self.deliveries.append(delivery)

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.deliveries]

    def wait(self, *, ups: int = 0, downs: int = 0, deliveries: int = 0, timeout_s: float = 20) -> None:
        """Until it has been told at least so much."""
        wanted = (ups, downs, deliveries)
        counts = "link_up, link_down, delivered"
        wait_until(lambda: all(map(int.__ge__, self._counts(), wanted)), timeout_s, f"{wanted} calls of {counts}")

    def _counts(self) -> tuple[int, int, int]:
        return len(self.ups), len(self.downs), len(self.deliveries)

    @property
    def own_queue(self) -> str:
        return self.ups[-1].own_queue

    def _note(self, what: str) -> None:
        self.threads.add(threading.current_thread())
        self.order.append(what)


class Confirms:
    """Collects what `done` of numbered publications was called with."""

    def __init__(self) -> None:
        self.results: list[tuple[int, bool]] = []
        self.threads: set[threading.Thread] = set()

    def of(self, number: int) -> Callable[[bool], None]:
        def done(taken: bool) -> None:
            self.threads.add(threading.current_thread())
            self.results.append((number, taken))

        return done

    def wait(self, count: int) -> list[tuple[int, bool]]:
        wait_until(lambda: len(self.results) >= count, 20, f"{count} confirms")
        return self.results


class Rig(ABC):
    """A broker to break.  Places are new ones for each rig, so that tests share a broker without meeting."""

    def __init__(self) -> None:
        self.exchange = f"test.{uuid.uuid4().hex}"
        self._links: list[Link] = []

    def place(self, scope: str = "fleet", document: str = "cache", exchange: str = "") -> Place:
        return Place(exchange or self.exchange, scope, document)

    def link(self, where: Place | Topology | None = None) -> Link:
        """A link that is not started; stopped at the test's end."""
        where = where or self.place()
        link = self.make(where if isinstance(where, Topology) else document_topology(where))
        self._links.append(link)
        return link

    def up(self, where: Place | Topology | None = None, *, serve: bool = False) -> tuple[Link, Recorder]:
        """A link that stands."""
        link, recorder = self.link(where), Recorder()
        link.serve_requests(serve)
        link.start(recorder)
        recorder.wait(ups=1)
        return link, recorder

    def close(self) -> None:
        for link in self._links:
            link.stop()

    @abstractmethod
    def make(self, topology: Topology) -> Link: ...

    @abstractmethod
    def crash(self) -> None:
        """Kill the broker."""

    @abstractmethod
    def restart(self) -> None:
        """Start it again."""

    @abstractmethod
    def declare_exchange(self, name: str, exchange_type: str, durable: bool = False) -> None: ...

    @abstractmethod
    def delete_exchange(self, name: str) -> None: ...

    @abstractmethod
    def delete_queue(self, name: str) -> None: ...

    @abstractmethod
    def withhold_requests(self, place: Place) -> None:
        """Keep the place's request queue from all links."""

    @abstractmethod
    def grant_requests(self, place: Place) -> None: ...

    @abstractmethod
    def queue_exists(self, name: str) -> bool: ...

    @abstractmethod
    def request_consumers(self, place: Place) -> int: ...


def news(link: Link, body: bytes, kind: str = "CACHE", **more: Any) -> Publication:
    """To all links of the same place."""
    assert isinstance(link, RabbitLink | MemoryLink)
    ((exchange, bound),) = link.topology.own_queue.bindings
    return Publication(body, exchange, bound.removesuffix("*") + kind, **more)


def elected(rig: Rig) -> Topology:
    """A queue of which one link at a time gets everything, and takes it late."""
    exchange = f"{rig.exchange}.elected"
    queue = Queue(f"{rig.exchange}.election", {"x-single-active-consumer": True}, (Binding(exchange, "#"),))
    return Topology((Exchange(exchange, durable=False),), Queue(), queue, late_acks=True)


def talk(sender: Link, receiver: Recorder, body: bytes) -> None:
    """`body` gets through, sent until it does: for links that have just come up again."""

    def heard() -> bool:
        sender.publish(news(sender, body))
        wait_until(lambda: body in receiver.bodies, 0.2)
        return True

    wait_until(heard, 20, f"{body!r} to get through")


def acquired(link: Link) -> bool:
    """Whether the link gets the lease now."""
    answers: list[bool] = []
    link.acquire_lease(answers.append)
    wait_until(lambda: bool(answers), what="the answer")
    return answers[0]


def mesh(prefix: str, key: str) -> Topology:
    """As programs of the older library have it: nothing durable, a queue whose messages expire, three exchanges."""
    events, traces, spies = (f"{prefix}.{name}" for name in ("mesh", "snoop.trace", "snoop.spy"))
    return Topology(
        exchanges=tuple(Exchange(name, durable=False) for name in (events, traces, spies)),
        own_queue=Queue(
            arguments={"x-message-ttl": 50_000},
            bindings=(Binding(events, key), Binding(traces, "#"), Binding(spies, "#")),
        ),
    )


class LinkContract:
    """The promises of `miros_cache_net.amqp.link`."""

    @pytest.fixture
    def rig(self) -> Iterator[Rig]:
        raise NotImplementedError

    # --- broadcasts -------------------------------------------------------------------------------------

    def test_message_reaches_every_link_but_its_sender(self, rig: Rig) -> None:
        (alpha, at_alpha), (_, at_beta), (_, at_gamma) = rig.up(), rig.up(), rig.up()
        alpha.publish(news(alpha, b"news", key_id="k1"))
        alpha.publish(news(alpha, b"last", kind="CACHE_FILE_WRITE"))
        for heard in (at_beta, at_gamma):
            heard.wait(deliveries=2)
            assert heard.deliveries == [
                Delivery(b"news", routing_key(rig.place(), "CACHE"), key_id="k1", exchange=rig.exchange),
                Delivery(b"last", routing_key(rig.place(), "CACHE_FILE_WRITE"), exchange=rig.exchange),
            ]
        alpha.publish(Publication(b"to myself", queue=at_alpha.own_queue))
        at_alpha.wait(deliveries=1)
        assert at_alpha.bodies == [b"to myself"]

    def test_other_scopes_documents_and_exchanges_hear_nothing(self, rig: Rig) -> None:
        sender, _ = rig.up(rig.place("a", "b"))
        _, inside = rig.up(rig.place("a", "b"))
        others = [rig.up(rig.place(*names)) for names in (("a", "c"), ("c", "b"), ("b", "a"), ("a.b", "c"))]
        others.append(rig.up(rig.place("a", "b", exchange=rig.exchange + ".other")))
        sender.publish(news(sender, b"news"))
        inside.wait(deliveries=1)
        for link, heard in others:
            link.publish(Publication(b"end", queue=heard.own_queue))
            heard.wait(deliveries=1)
            assert heard.bodies == [b"end"]

    def test_messages_of_one_sender_arrive_once_in_order(self, rig: Rig) -> None:
        (sender, _), (_, heard) = rig.up(), rig.up()
        sent = [b"%d" % number for number in range(500)]
        for body in sent:
            sender.publish(news(sender, body))
        wait_until(lambda: len(heard.deliveries) >= len(sent), 20)
        assert heard.bodies == sent

    def test_scopes_and_documents_may_hold_anything(self, rig: Rig) -> None:
        place = rig.place("lab/192.168.1.0%2F24 #*", "ü.json")
        (sender, _), (_, heard) = rig.up(place), rig.up(place)
        sender.publish(news(sender, b"news"))
        heard.wait(deliveries=1)
        assert parse_routing_key(heard.deliveries[0].routing_key) == (place.scope, place.document, "CACHE")

    # --- requests ---------------------------------------------------------------------------------------

    def test_request_reaches_one_server_and_servers_take_turns(self, rig: Rig) -> None:
        asker, at_asker = rig.up()
        servers = [rig.up(serve=True)[1] for _ in range(3)]
        wait_until(lambda: rig.request_consumers(rig.place()) == 3)
        for number in range(30):
            asker.publish(Publication(b"%d" % number, requests=True, reply_here=True))
        wait_until(lambda: sum(len(server.deliveries) for server in servers) >= 30)
        bodies = [body for server in servers for body in server.bodies]
        assert sorted(bodies, key=int) == [b"%d" % number for number in range(30)]
        assert all(server.deliveries for server in servers)
        for server in servers:
            assert all(d.from_requests and d.reply_to == at_asker.own_queue for d in server.deliveries)
        assert not at_asker.deliveries

    def test_an_answer_goes_to_the_asker_alone(self, rig: Rig) -> None:
        (asker, at_asker), (server, at_server), (_, bystander) = rig.up(), rig.up(serve=True), rig.up()
        asker.publish(Publication(b"question", requests=True, reply_here=True, key_id="k"))
        at_server.wait(deliveries=1)
        server.publish(Publication(b"answer", queue=at_server.deliveries[0].reply_to, key_id="k"))
        at_asker.wait(deliveries=1)
        server.publish(news(server, b"end"))
        wait_until(lambda: b"end" in bystander.bodies and b"end" in at_asker.bodies)
        assert at_asker.bodies == [b"answer", b"end"]
        assert at_asker.deliveries[0].key_id == "k" and not at_asker.deliveries[0].from_requests
        assert bystander.bodies == [b"end"]

    def test_new_link_learns_whether_anybody_can_answer(self, rig: Rig) -> None:
        _, first = rig.up()
        assert first.ups[0].request_servers == 0
        rig.up(serve=True)
        wait_until(lambda: rig.request_consumers(rig.place()) == 1)
        _, later = rig.up()
        assert later.ups[0].request_servers == 1
        assert later.ups[0].own_queue != first.ups[0].own_queue

    def test_requests_wait_until_somebody_serves(self, rig: Rig) -> None:
        (asker, _), (server, at_server), (_, at_other) = rig.up(), rig.up(serve=True), rig.up()
        wait_until(lambda: rig.request_consumers(rig.place()) == 1)
        server.serve_requests(False)
        wait_until(lambda: rig.request_consumers(rig.place()) == 0)
        asker.publish(Publication(b"waits", requests=True))
        server.publish(Publication(b"end", queue=at_server.own_queue))
        wait_until(lambda: at_server.bodies == [b"end"])
        server.serve_requests(True)
        wait_until(lambda: b"waits" in at_server.bodies)
        assert not at_other.deliveries

    def test_quick_switching_ends_in_the_last_serving_state(self, rig: Rig) -> None:
        asker, _ = rig.up()
        server, at_server = rig.up()
        for _ in range(20):
            server.serve_requests(False)
            server.serve_requests(True)
        wait_until(lambda: rig.request_consumers(rig.place()) == 1)
        asker.publish(Publication(b"question", requests=True))
        wait_until(lambda: at_server.bodies == [b"question"])

    def test_outlived_request_is_answered_by_nobody(self, rig: Rig) -> None:
        asker, _ = rig.up()
        confirms = Confirms()
        asker.publish(Publication(b"stale", requests=True, ttl_s=0.0, done=confirms.of(0)))
        asker.publish(Publication(b"fresh", requests=True, ttl_s=60.0, done=confirms.of(1)))
        asker.publish(Publication(b"for ever", requests=True, ttl_s=1e12, done=confirms.of(2)))
        confirms.wait(3)
        _, at_server = rig.up(serve=True)
        at_server.wait(deliveries=2)
        asker.publish(Publication(b"end", requests=True))
        wait_until(lambda: b"end" in at_server.bodies)
        assert at_server.bodies == [b"fresh", b"for ever", b"end"]

    # --- late acknowledgements -------------------------------------------------------------------------------

    def test_one_link_at_a_time_is_active(self, rig: Rig) -> None:
        where = elected(rig)
        (asker, _), (_, active), (_, waiting) = rig.up(where), rig.up(where, serve=True), rig.up(where, serve=True)
        for number in range(20):
            asker.publish(Publication(b"%d" % number, where.exchanges[0].name, "a.b"))
        wait_until(lambda: len(active.deliveries) + len(waiting.deliveries) >= 20)
        assert sorted([len(active.deliveries), len(waiting.deliveries)]) == [0, 20]
        assert (active.deliveries or waiting.deliveries)[0].from_requests

    def test_what_is_not_taken_goes_to_the_next(self, rig: Rig) -> None:
        where = elected(rig)
        (asker, _), (first, at_first) = rig.up(where), rig.up(where, serve=True)
        for number in range(4):
            asker.publish(Publication(b"%d" % number, where.exchanges[0].name, "a.b"))
        at_first.wait(deliveries=4)
        at_first.deliveries[1].taken()
        _, at_second = rig.up(where, serve=True)
        first.stop()
        at_second.wait(deliveries=3)
        assert at_second.bodies == [b"0", b"2", b"3"]

    def test_late_taken_after_stop_is_harmless(self, rig: Rig) -> None:
        where = elected(rig)
        (asker, _), (first, at_first) = rig.up(where), rig.up(where, serve=True)
        asker.publish(Publication(b"0", requests=True))
        at_first.wait(deliveries=1)
        first.stop()
        at_first.deliveries[0].taken()
        _, at_second = rig.up(where, serve=True)
        at_second.wait(deliveries=1)
        assert at_second.bodies == [b"0"]

    # --- confirms -----------------------------------------------------------------------------------------

    def test_publication_is_confirmed_once_on_the_links_thread(self, rig: Rig) -> None:
        (link, heard), _ = rig.up(), rig.up()
        confirms = Confirms()
        for number in range(200):
            link.publish(news(link, b"%d" % number, done=confirms.of(number)))
        link.publish(Publication(b"nowhere", queue="amq.gen-nobody", done=confirms.of(200)))
        assert sorted(confirms.wait(201)) == [(number, True) for number in range(201)]
        assert confirms.threads == heard.threads != {threading.current_thread()}

    def test_publication_beyond_the_backlog_is_settled_once(self, rig: Rig) -> None:
        link, _ = rig.up()
        confirms = Confirms()
        hold = threading.Event()

        def block(_taken: bool) -> None:
            hold.wait(20)

        link.publish(news(link, b"first", done=block))
        for number in range(5000):
            link.publish(news(link, b"more", done=confirms.of(number)))
        hold.set()
        assert len(confirms.wait(5000)) == 5000
        assert len({number for number, _ in confirms.results}) == 5000

    def test_what_is_confirmed_makes_room_for_more(self, rig: Rig) -> None:
        link, _ = rig.up()
        confirms = Confirms()
        count = 3 * limits.PUBLISH_BACKLOG
        for number in range(count):
            if number % 500 == 0:
                confirms.wait(number)
            link.publish(news(link, b"", done=confirms.of(number)))
        assert all(taken for _, taken in confirms.wait(count))

    @pytest.mark.parametrize(
        "wrong",
        [
            Publication(b""),
            Publication(b"", "", "k", queue="q", requests=True),
            Publication(b"", "somebody.elses.exchange", "k"),
            Publication(b"", queue="q" * 256),
        ],
    )
    def test_impossible_publication_is_refused_at_once(self, rig: Rig, wrong: Publication) -> None:
        link, _ = rig.up()
        with pytest.raises(ValueError):
            link.publish(wrong)
        for more in ({"queue": "q"}, {"requests": True}):
            with pytest.raises(ValueError):
                link.publish(news(link, b"", **more))
        with pytest.raises(ValueError):
            link.publish(news(link, b"", kind="k" * 256))

    # --- threads --------------------------------------------------------------------------------------------

    def test_listener_is_called_on_the_links_thread_only(self, rig: Rig) -> None:
        (sender, _), (_, heard) = rig.up(), rig.up()
        sender.publish(news(sender, b"news"))
        heard.wait(deliveries=1)
        assert len(heard.threads) == 1
        assert threading.current_thread() not in heard.threads
        assert heard.order == ["up", "delivered"]

    def test_raising_listener_costs_only_a_log_line(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        class Raises(Recorder):
            def link_up(self, up: LinkUp) -> None:
                super().link_up(up)
                raise RuntimeError("planted")

            def delivered(self, delivery: Delivery) -> None:
                super().delivered(delivery)
                raise RuntimeError("planted")

        (sender, _), (link, heard) = rig.up(), (rig.link(), Raises())
        link.start(heard)
        heard.wait(ups=1)
        for body in (b"1", b"2", b"3"):
            sender.publish(news(sender, body))
        wait_until(lambda: heard.bodies == [b"1", b"2", b"3"])
        logged = [record.getMessage() for record in caplog.records if "raised" in record.getMessage()]
        assert len(logged) == 2, "one line each for link_up and delivered, not one a message"

    def test_a_done_that_raises_costs_nothing(self, rig: Rig) -> None:
        link, _ = rig.up()
        confirms = Confirms()

        def raises(_taken: bool) -> None:
            raise RuntimeError("planted")

        link.publish(news(link, b"1", done=raises))
        link.publish(news(link, b"2", done=confirms.of(2)))
        assert confirms.wait(1) == [(2, True)]

    def test_standing_link_tells_how_long_it_heard_nothing(self, rig: Rig) -> None:
        assert rig.link().silent_s is None
        link, recorder = rig.up()
        assert link.silent_s is not None and link.silent_s >= 0
        rig.crash()
        recorder.wait(downs=1)
        assert link.silent_s is None
        rig.restart()
        recorder.wait(ups=2)
        assert link.silent_s is not None

    # --- the end ----------------------------------------------------------------------------------------------

    def test_stop_sends_what_waits_and_leaves_no_thread(self, rig: Rig) -> None:
        _, heard = rig.up()
        threads = NewThreads()
        link, recorder = rig.up()
        confirms = Confirms()
        for number in range(100):
            link.publish(news(link, b"%d" % number, done=confirms.of(number)))
        link.stop()
        assert confirms.results == [(number, True) for number in range(100)]
        assert threads.names() == []
        wait_until(lambda: len(heard.deliveries) == 100)
        assert recorder.downs == [] and recorder.order == ["up"]

    def test_publications_after_stop_are_lost(self, rig: Rig) -> None:
        link, _ = rig.up()
        link.stop()
        link.stop()
        link.serve_requests(True)
        confirms = Confirms()
        link.publish(news(link, b"late", done=confirms.of(0)))
        assert confirms.results == [(0, False)]

    def test_a_link_never_started_stops_too(self, rig: Rig) -> None:
        link = rig.link()
        link.stop()
        with pytest.raises(RuntimeError):
            link.start(Recorder())

    def test_a_link_starts_once(self, rig: Rig) -> None:
        link, _ = rig.up()
        with pytest.raises(RuntimeError):
            link.start(Recorder())

    def test_a_link_stopped_by_its_own_listener_ends(self, rig: Rig) -> None:
        threads = NewThreads()
        link = rig.link()

        class StopsIt(Recorder):
            def link_up(self, up: LinkUp) -> None:
                super().link_up(up)
                link.stop()

        listener = StopsIt()
        link.start(listener)
        listener.wait(ups=1)
        wait_until(lambda: not threads.names())

    def test_stopped_link_serves_nothing_and_loses_its_queue(self, rig: Rig) -> None:
        asker, _ = rig.up()
        server, at_server = rig.up(serve=True)
        wait_until(lambda: rig.request_consumers(rig.place()) == 1)
        assert rig.queue_exists(at_server.own_queue)
        server.stop()
        wait_until(lambda: not rig.queue_exists(at_server.own_queue))
        wait_until(lambda: rig.request_consumers(rig.place()) == 0)
        asker.publish(Publication(b"question", requests=True))
        _, at_next = rig.up(serve=True)
        wait_until(lambda: at_next.bodies == [b"question"])

    # --- leases ---------------------------------------------------------------------------------------------

    def test_one_link_of_a_place_holds_the_lease(self, rig: Rig) -> None:
        (alpha, _), (beta, _), (other, _) = rig.up(), rig.up(), rig.up(rig.place("another"))
        assert acquired(alpha)
        assert not acquired(beta)
        assert not acquired(alpha)
        assert acquired(other)
        alpha.release_lease()
        wait_until(lambda: acquired(beta), what="the lease to be free")
        assert not acquired(alpha)

    def test_a_lease_ends_with_its_link(self, rig: Rig) -> None:
        (alpha, _), (beta, at_beta) = rig.up(), rig.up()
        assert acquired(alpha)
        alpha.stop()
        wait_until(lambda: acquired(beta), what="the lease to be free")
        rig.crash()
        at_beta.wait(downs=1)
        assert not acquired(beta)
        rig.restart()
        gamma, _ = rig.up()
        wait_until(lambda: acquired(gamma), what="the lease of a broker that died to be free")

    def test_link_that_does_not_run_gets_no_lease(self, rig: Rig) -> None:
        link = rig.link()
        assert not acquired(link)
        link.stop()
        assert not acquired(link)
        link.release_lease()

    # --- faults -------------------------------------------------------------------------------------------------

    def test_broker_death_is_told_once_and_link_returns(self, rig: Rig) -> None:
        (alpha, at_alpha), (beta, at_beta) = rig.up(), rig.up(serve=True)
        talk(alpha, at_beta, b"before")
        rig.crash()
        for heard in (at_alpha, at_beta):
            heard.wait(downs=1)
        confirms = Confirms()
        alpha.publish(news(alpha, b"lost", done=confirms.of(0)))
        assert confirms.wait(1) == [(0, False)]
        rig.restart()
        for heard in (at_alpha, at_beta):
            heard.wait(ups=2, timeout_s=60)
            assert [type(error) for error in heard.downs] == [BrokerUnreachable]
            assert not any(error.fatal for error in heard.downs)
        talk(alpha, at_beta, b"after")
        talk(beta, at_alpha, b"back")
        alpha.publish(Publication(b"question", requests=True))
        wait_until(lambda: b"question" in at_beta.bodies, what="requests served again")
        assert b"lost" not in at_beta.bodies

    def test_exchange_of_another_type_is_fatal(self, rig: Rig) -> None:
        rig.declare_exchange(rig.exchange, "fanout")
        link, recorder = rig.link(), Recorder()
        link.start(recorder)
        recorder.wait(downs=1)
        confirms = Confirms()
        link.publish(news(link, b"news", done=confirms.of(0)))
        assert confirms.wait(1) == [(0, False)]
        assert [type(error) for error in recorder.downs] == [ExchangeConflict]
        assert recorder.downs[0].fatal and rig.exchange in str(recorder.downs[0])
        assert "\n" not in str(recorder.downs[0])
        rig.delete_exchange(rig.exchange)
        rig.up()
        assert not recorder.ups, "a fatal error ends the trying"

    def test_deleted_queue_is_remade_without_disturbing_other_links(self, rig: Rig) -> None:
        (alpha, at_alpha), (_, at_beta) = rig.up(), rig.up()
        rig.delete_queue(at_beta.own_queue)
        at_beta.wait(ups=2)
        assert [type(error) for error in at_beta.downs] == [TopologyLost]
        assert at_beta.ups[0].own_queue != at_beta.ups[1].own_queue
        talk(alpha, at_beta, b"after")
        assert at_alpha.order == ["up"]

    def test_deleted_request_queue_of_server_is_made_again(self, rig: Rig) -> None:
        (asker, _), (_, at_server) = rig.up(), rig.up(serve=True)
        wait_until(lambda: rig.request_consumers(rig.place()) == 1)
        rig.delete_queue(request_queue_name(rig.place()))
        wait_until(lambda: rig.request_consumers(rig.place()) == 1)
        asker.publish(Publication(b"question", requests=True))
        wait_until(lambda: at_server.bodies == [b"question"])
        assert at_server.order == ["up", "delivered"], "the link stands"

    def test_link_stands_without_the_request_queue(self, rig: Rig) -> None:
        rig.withhold_requests(rig.place())
        (alpha, at_alpha), (_, at_beta) = rig.up(serve=True), rig.up()
        assert [at_alpha.ups[0].request_servers, at_beta.ups[0].request_servers] == [None, None]
        confirms = Confirms()
        alpha.publish(Publication(b"question", requests=True, done=confirms.of(0)))
        assert confirms.wait(1) == [(0, False)]
        talk(alpha, at_beta, b"news")
        assert not at_alpha.downs and not at_beta.downs

    def test_lost_request_queue_takes_no_link_along(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "REQUEST_QUEUE_RETRY_S", 0.2)
        (asker, at_asker), (server, at_server) = rig.up(), rig.up(serve=True)
        wait_until(lambda: rig.request_consumers(rig.place()) == 1)
        rig.withhold_requests(rig.place())
        confirms = Confirms()

        def lost() -> bool:
            confirms.results.clear()
            server.publish(Publication(b"question", requests=True, done=confirms.of(0)))
            return confirms.wait(1) == [(0, False)]

        wait_until(lost, what="a request to be lost at once")
        talk(asker, at_server, b"news")
        rig.grant_requests(rig.place())
        wait_until(lambda: rig.request_consumers(rig.place()) == 1, what="requests to be served again")

        def answered() -> bool:
            asker.publish(Publication(b"once more", requests=True))
            wait_until(lambda: b"once more" in at_server.bodies, 0.2)
            return True

        wait_until(answered, what="a request to be served")
        assert at_asker.order == ["up"] and not at_server.downs

    def test_deleted_exchange_is_noticed_and_made_again(self, rig: Rig) -> None:
        (alpha, at_alpha), (_, at_beta) = rig.up(), rig.up()
        rig.delete_exchange(rig.exchange)
        for heard in (at_alpha, at_beta):
            heard.wait(ups=2)
            assert [type(error) for error in heard.downs] == [TopologyLost]
        talk(alpha, at_beta, b"after")

    def test_silent_loss_is_not_told_and_messages_continue(self, rig: Rig) -> None:
        alpha, at_alpha = rig.up()
        alpha.publish(news(alpha, b"nobody"))
        _, at_beta = rig.up()
        talk(alpha, at_beta, b"after")
        assert b"nobody" not in at_beta.bodies
        assert at_alpha.order == ["up"]

    # --- another topology on the same classes -----------------------------------------------------------------------

    def test_topology_of_three_exchanges_carries_what_is_bound(self, rig: Rig) -> None:
        alpha, at_alpha = rig.up(mesh(rig.exchange, "heya.*"))
        _, at_beta = rig.up(mesh(rig.exchange, "heya.#"))
        _, at_gamma = rig.up(mesh(rig.exchange, "other"))
        assert at_alpha.ups[0].request_servers is None, "such a topology has no queue for requests"
        events, traces, spies = (exchange.name for exchange in mesh(rig.exchange, "").exchanges)
        alpha.publish(Publication(b"event", events, "heya.man"))
        alpha.publish(Publication(b"trace", traces, "anything"))
        alpha.publish(Publication(b"spy", spies, ""))
        at_beta.wait(deliveries=3)
        at_gamma.wait(deliveries=2)
        assert at_beta.deliveries == [
            Delivery(b"event", "heya.man", exchange=events),
            Delivery(b"trace", "anything", exchange=traces),
            Delivery(b"spy", "", exchange=spies),
        ]
        assert len({each.app_id for each in at_beta.deliveries}) == 1, "the sender's own mark"
        assert at_gamma.bodies == [b"trace", b"spy"]
        alpha.publish(Publication(b"end", queue=at_alpha.own_queue))
        at_alpha.wait(deliveries=1)
        assert at_alpha.bodies == [b"end"]
        assert acquired(alpha), "there is no lease to compete for"
        with pytest.raises(ValueError):
            alpha.publish(Publication(b"", requests=True))

    def test_link_without_a_queue_only_sends(self, rig: Rig) -> None:
        events = mesh(rig.exchange, "#").exchanges[0]
        sender, at_sender = rig.up(Topology((events,), None))
        assert at_sender.ups[0].own_queue == ""
        alpha, at_alpha = rig.up(mesh(rig.exchange, "#"))
        confirms = Confirms()
        sender.publish(Publication(b"event", events.name, "a.b", message_id="7", reply_here=True, done=confirms.of(1)))
        at_alpha.wait(deliveries=1)
        assert at_alpha.deliveries[0].message_id == "7" and not at_alpha.deliveries[0].reply_to
        assert confirms.wait(1) == [(1, True)]
        alpha.publish(Publication(b"event", events.name, "a.b"))
        assert at_sender.order == ["up"]

    def test_mandatory_message_that_no_queue_takes_is_refused(self, rig: Rig) -> None:
        link, recorder = rig.up()
        confirms, refused = Confirms(), []

        def send(number: int, key: str, mandatory: bool) -> None:
            link.publish(
                Publication(
                    b"%d" % number,
                    rig.exchange,
                    key,
                    message_id=f"id-{number}",
                    mandatory=mandatory,
                    done=confirms.of(number),
                    refused=refused.append,
                )
            )

        heard_by_own = routing_key(rig.place(), "CACHE")
        for number, (key, mandatory) in enumerate([("nobody", True), ("nobody", False), (heard_by_own, True)]):
            send(number, key, mandatory)
            confirms.wait(number + 1)
        assert confirms.results == [(0, False), (1, True), (2, True)]
        assert [type(error) for error in refused] == [Unroutable]
        assert not recorder.downs

    def test_link_that_only_sends_returns_with_its_broker(self, rig: Rig) -> None:
        events = mesh(rig.exchange, "#").exchanges[0]
        sender, at_sender = rig.up(Topology((events,), None))
        rig.crash()
        rig.restart()
        at_sender.wait(ups=2, timeout_s=60)
        _, at_alpha = rig.up(mesh(rig.exchange, "#"))
        sender.publish(Publication(b"after", events.name, "a.b"))
        at_alpha.wait(deliveries=1)

    def test_new_link_tells_which_address_it_dialled(self, rig: Rig) -> None:
        _, at_alpha = rig.up()
        assert at_alpha.ups[0].host == "127.0.0.1"

    def test_two_topologies_at_one_broker_do_not_meet(self, rig: Rig) -> None:
        (document, _), (_, at_mesh) = rig.up(), rig.up(mesh(rig.exchange, "#"))
        document.publish(news(document, b"news"))
        document.publish(Publication(b"end", queue=at_mesh.own_queue))
        at_mesh.wait(deliveries=1)
        assert at_mesh.bodies == [b"end"]

    @pytest.mark.parametrize("durable", [True, False])
    def test_exchange_declared_otherwise_refuses_only_conflicting_links(self, rig: Rig, durable: bool) -> None:
        events = mesh(rig.exchange, "#").exchanges[0].name
        rig.declare_exchange(events, "topic", durable)
        fleeting, lasting = Recorder(), Recorder()
        rig.link(mesh(rig.exchange, "#")).start(fleeting)
        rig.link(rig.place(exchange=events)).start(lasting)
        refused, taken = (fleeting, lasting) if durable else (lasting, fleeting)
        refused.wait(downs=1)
        taken.wait(ups=1)
        assert [type(error) for error in refused.downs] == [ExchangeConflict] and not refused.ups

    def test_fleeting_exchange_is_redeclared_after_broker_restart(self, rig: Rig) -> None:
        (alpha, at_alpha), (_, at_beta) = (rig.up(mesh(rig.exchange, "#")) for _ in range(2))
        rig.crash()
        rig.restart()
        for heard in (at_alpha, at_beta):
            heard.wait(ups=2, timeout_s=60)

        def heard() -> bool:
            alpha.publish(Publication(b"after", mesh(rig.exchange, "#").exchanges[0].name, "k"))
            wait_until(lambda: b"after" in at_beta.bodies, 0.2)
            return True

        wait_until(heard, what="an event to get through")
