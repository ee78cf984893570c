"""From settings to a link: which exchange, scope and document, and which broker."""

from __future__ import annotations

from collections.abc import Callable

from miros_cache_net.amqp.link import Link, Place
from miros_cache_net.amqp.topology import place_of
from miros_cache_net.settings import Settings

__all__ = ["LinkFactory", "place_of", "rabbit_link"]

LinkFactory = Callable[[Settings, Place], Link]


def rabbit_link(settings: Settings, place: Place) -> Link:
    """A link to the RabbitMQ that the settings name."""
    # pika is loaded by the process that becomes the bridge, not by its followers
    from miros_cache_net.amqp.connection import RabbitLink
    from miros_cache_net.amqp.link_options import LinkOptions

    options = LinkOptions(
        heartbeat_s=settings.heartbeat_s,
        tls_ca_file=settings.tls_ca_file,
        tls_verify=settings.tls_verify,
        # both repair what a fault did without a sign
        canary_interval_s=settings.digest_interval_s,
    )
    return RabbitLink(
        place, settings.amqp_urls, options=options, connection_name=f"miros-cache-net {settings.node_name}"
    )
