"""The link to a real RabbitMQ keeps the promises of every link."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from miros_cache_net.amqp.connection import RabbitLink
from miros_cache_net.amqp.link import Link
from miros_cache_net.amqp.link_options import LinkOptions
from miros_cache_net.amqp.topology import Topology
from miros_cache_net.fleet.place import Place, document_topology, request_queue_name
from miros_cache_net.settings.broker_address import BrokerAddress
from miros_cache_net.testing import ManualClock, RabbitServer, wait_until
from tests.integration.link_contract import LinkContract, Recorder, Rig, news

#: A canary flies often, so that tests need not wait for one.
QUICK = LinkOptions(canary_interval_s=0.3, canary_timeout_s=2.0)


class RabbitRig(Rig):
    def __init__(self, server: RabbitServer) -> None:
        super().__init__()
        self.server = server
        self.address = BrokerAddress.parse(server.url)

    def make(self, topology: Topology) -> Link:
        return RabbitLink(topology, [self.address], options=QUICK)

    def crash(self) -> None:
        self.server.kill()

    def restart(self) -> None:
        self.server.start()

    @contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        """A channel of another program's connection."""
        connection = pika.BlockingConnection(pika.URLParameters(self.server.url))
        try:
            yield connection.channel()
        finally:
            connection.close()

    def declare_exchange(self, name: str, exchange_type: str, durable: bool = False) -> None:
        with self.channel() as channel:
            channel.exchange_declare(name, exchange_type, durable=durable)

    def delete_exchange(self, name: str) -> None:
        with self.channel() as channel:
            channel.exchange_delete(name)

    def delete_queue(self, name: str) -> None:
        self.server.ctl("delete_queue", name)

    def withhold_requests(self, place: Place) -> None:
        """Somebody else's queue has its name, with other arguments."""
        name = request_queue_name(place)

        def taken() -> bool:
            with self.channel() as channel:
                channel.queue_delete(name)
                try:
                    channel.queue_declare(name, durable=True)
                except pika.exceptions.ChannelClosedByBroker:
                    return False  # a link was quicker
            return True

        wait_until(taken, what="the name of the request queue")

    def grant_requests(self, place: Place) -> None:
        with self.channel() as channel:
            channel.queue_delete(request_queue_name(place))

    def queue_exists(self, name: str) -> bool:
        connection = pika.BlockingConnection(pika.URLParameters(self.server.url))
        try:
            connection.channel().queue_declare(name, passive=True)
        except pika.exceptions.ChannelClosedByBroker as error:
            # 405: it is there, and exclusive to somebody else.
            return bool(error.reply_code == 405)
        finally:
            connection.close()
        return True

    def request_consumers(self, place: Place) -> int:
        with self.channel() as channel:
            try:
                declared = channel.queue_declare(request_queue_name(place), passive=True)
            except pika.exceptions.ChannelClosedByBroker:
                return 0
        return int(declared.method.consumer_count)


class TestRabbitLink(LinkContract):
    @pytest.fixture
    def rig(self, rabbit_server: RabbitServer, rabbit_url: str) -> Iterator[Rig]:
        rig = RabbitRig(rabbit_server)
        yield rig
        rig.close()

    def test_message_through_the_exchange_ends_links_silence(self, rig: Rig) -> None:
        assert isinstance(rig, RabbitRig)
        clock, recorder = ManualClock(), Recorder()
        link = RabbitLink(document_topology(rig.place()), [rig.address], clock=clock)
        link.start(recorder)
        try:
            recorder.wait(ups=1)
            clock.advance(100)
            assert link.silent_s == 100
            other, _ = rig.up()
            other.publish(news(other, b"1"))
            recorder.wait(deliveries=1)
            assert link.silent_s == 0
        finally:
            link.stop()
