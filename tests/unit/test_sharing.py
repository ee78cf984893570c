"""Which links share a thread, and what becomes of one that cannot be had."""

from __future__ import annotations

import random

import pytest

from miros_cache_net.amqp.link_options import LinkOptions
from miros_cache_net.amqp.link_thread import LinkThread
from miros_cache_net.amqp.reconnect import Reconnect
from miros_cache_net.amqp.sharing import Sharing
from miros_cache_net.clock import SYSTEM_CLOCK
from miros_cache_net.fleet.place import Place, document_topology
from miros_cache_net.settings.broker_address import BrokerAddress


class Granted(LinkThread):
    def start(self) -> None: ...


class Refused(LinkThread):
    def start(self) -> None:
        raise RuntimeError("can't start new thread")


def thread(kind: type[LinkThread]) -> LinkThread:
    reconnect = Reconnect([BrokerAddress.parse("amqp://127.0.0.1:1")], SYSTEM_CLOCK, random.Random(1))
    return kind(LinkOptions(), None, "of a test", reconnect)


def test_link_joins_no_thread_that_was_not_granted() -> None:
    sharing = Sharing()
    one, two, three = (document_topology(Place("exchange", "scope", name)) for name in ("one", "two", "three"))
    with pytest.raises(OSError, match="can't start new thread"):
        sharing.join("a fleet", one, lambda: thread(Refused))
    carrier = sharing.join("a fleet", two, lambda: thread(Granted))
    assert isinstance(carrier, Granted)
    assert sharing.join("a fleet", three, lambda: thread(Refused)) is carrier
    carrier.services.loop.close()
