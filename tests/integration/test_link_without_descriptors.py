"""A process that has run out of descriptors gets no link for a moment, and one as soon as it has some again."""

from __future__ import annotations

import os

import psutil
import pytest

from miros_cache_net.amqp.connection import RabbitLink
from miros_cache_net.amqp.pika_loop import LinkServices
from miros_cache_net.fleet.place import Place, document_topology
from miros_cache_net.settings.broker_address import BrokerAddress
from tests.descriptors import descriptors_left
from tests.integration.link_contract import Recorder


@pytest.mark.parametrize("count", range(3))
def test_link_without_descriptors_can_be_started_again(count: int, rabbit_url: str, place: Place) -> None:
    link, recorder = RabbitLink(document_topology(place), [BrokerAddress.parse(rabbit_url)]), Recorder()
    with descriptors_left(count):
        with pytest.raises(OSError, match="Too many open files"):
            link.start(recorder)
        # what it had for a moment is free again
        for descriptor in [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]:
            os.close(descriptor)
    link.start(recorder)
    try:
        recorder.wait(ups=1)
    finally:
        link.stop()


def test_a_loop_is_woken_without_a_port() -> None:
    before = set(psutil.Process().net_connections("inet"))
    services = LinkServices()
    try:
        assert set(psutil.Process().net_connections("inet")) <= before
    finally:
        services.loop.close()
