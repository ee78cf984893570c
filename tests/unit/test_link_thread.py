"""What a thread that carries links does when a broker fails one of them: in the test's thread, without a broker."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from miros_cache_net.amqp.link import Delivery, LinkUp
from miros_cache_net.amqp.link_options import LinkOptions
from miros_cache_net.amqp.link_thread import LinkThread
from miros_cache_net.amqp.outbox import Outbox
from miros_cache_net.amqp.reconnect import Reconnect
from miros_cache_net.amqp.tenant import Tenant
from miros_cache_net.clock import SYSTEM_CLOCK
from miros_cache_net.errors import BrokerError, BrokerUnreachable, ExchangeConflict, TopologyLost
from miros_cache_net.fleet.place import Place, document_topology
from miros_cache_net.settings.broker_address import BrokerAddress

NO_ANSWER = BrokerUnreachable("does not answer")


class Rules(Reconnect):
    """Notes which sessions stood."""

    ups = 0

    def up(self) -> None:
        self.ups += 1
        super().up()


class Listener:
    def link_up(self, up: LinkUp) -> None: ...

    def link_down(self, error: BrokerError) -> None: ...

    def delivered(self, delivery: Delivery) -> None: ...


class Standing(Tenant):
    is_up = True


Carry = Callable[..., Tenant]


@pytest.fixture
def rules() -> Rules:
    addresses = [BrokerAddress.parse(f"amqp://127.0.0.{host}:1") for host in (1, 2)]
    return Rules(addresses, SYSTEM_CLOCK, random.Random(1))


@pytest.fixture
def thread(rules: Rules) -> Iterator[LinkThread]:
    """It is not started, so nothing happens at the network."""
    made = LinkThread(LinkOptions(), None, "of a test", rules)
    yield made
    if made.session is not None:
        made.session.abort()
    made.services.loop.close()


@pytest.fixture
def carry(thread: LinkThread) -> Carry:
    def add(document: str, kind: type[Tenant] = Tenant) -> Tenant:
        topology = document_topology(Place("exchange", "scope", document))
        rng = random.Random(1)
        tenant = kind(topology, LinkOptions(), document, Outbox(), Listener(), SYSTEM_CLOCK, rng)
        thread.add(tenant)
        thread.services.loop.process_timeouts()  # what was looked up arrives
        return tenant

    return add


def test_broker_that_answers_no_link_is_left(thread: LinkThread, rules: Rules, carry: Carry) -> None:
    first = rules.address
    waits_longest, _ = carry("one"), carry("two")
    waits_longest.channels_lost(NO_ANSWER, at_once=False, hangs=False)
    assert thread.session is None and rules.address != first


def test_a_broker_that_answers_another_link_is_kept(thread: LinkThread, carry: Carry) -> None:
    waits, _ = carry("one"), carry("two", Standing)
    session = thread.session
    waits.channels_lost(NO_ANSWER, at_once=False, hangs=False)
    assert thread.session is session is not None


def test_refusal_of_one_link_disturbs_no_starting_link(thread: LinkThread, carry: Carry) -> None:
    refused, _ = carry("one"), carry("two")
    session = thread.session
    refused.channels_lost(TopologyLost("deleted"), at_once=True, hangs=False)
    assert thread.session is session is not None


def test_session_after_an_abandoned_one_stands_too(thread: LinkThread, rules: Rules, carry: Carry) -> None:
    gives_up = carry("one")
    thread.tenant_up()
    gives_up.channels_lost(ExchangeConflict("foreign"), at_once=True, hangs=False)
    assert thread.session is None
    carry("two")
    thread.tenant_up()
    assert rules.ups == 2
