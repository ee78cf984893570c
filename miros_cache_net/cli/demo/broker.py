"""A RabbitMQ for the demo: the one that the settings name if it answers, else a private one on free ports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from miros_cache_net.errors import BrokerError
from miros_cache_net.fleet.fleet_client import FleetClient
from miros_cache_net.settings import Settings


@contextmanager
def broker_for(settings: Settings, say: Callable[[str], None]) -> Iterator[tuple[str, int, str | None]]:
    """Host and port of the broker, and its URL if it is a private one (None: the settings' own broker answers)."""
    address = settings.amqp_urls[0]
    try:
        with FleetClient(settings) as client:
            broker = client.up.broker if client.up else str(address)
        say(f"Using {broker}, in a scope of its own.")
        yield address.host, address.port, None
        return
    except BrokerError:
        pass  # it does not accept us; a private one disturbs nobody
    from miros_cache_net.testing import RabbitServer

    say("No RabbitMQ here accepts us; starting a private one on free ports (takes a few seconds) ...")
    with RabbitServer() as server:
        yield "127.0.0.1", server.port, server.url
