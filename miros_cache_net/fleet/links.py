"""From settings to a link: which document, and which broker."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from miros_cache_net.amqp.link import Link
from miros_cache_net.amqp.topology import Topology
from miros_cache_net.fleet.place import Place, document_topology
from miros_cache_net.settings import Settings
from miros_cache_net.settings.broker_address import BrokerAddress

LinkFactory = Callable[[Settings, Place], Link]


def shared_rabbit_link(settings: Settings, place: Place) -> Link:
    """A link to the RabbitMQ that the settings name, on two connections shared with this process's other documents.

    Only links with the same brokers, key and node name share them.
    """
    return _link(settings, place, share=sharing_of(settings))


def rabbit_link(settings: Settings, place: Place) -> Link:
    """A link to the RabbitMQ that the settings name, on two connections of its own."""
    return _link(settings, place, share=None)


def sharing_of(settings: Settings) -> Hashable:
    """The value that links of this process must have in common to share connections."""
    return settings.keys or settings.keys_file


def _link(settings: Settings, place: Place, *, share: Hashable) -> Link:
    return link_of(settings, document_topology(place), settings.amqp_urls, share=share)


def link_of(
    settings: Settings, topology: Topology, addresses: Sequence[BrokerAddress], *, share: Hashable
) -> Link:  # fmt: skip
    """A link with the options that the settings give; `share` as for `RabbitLink`."""
    # imported here so that only the bridge loads pika, not its followers
    from miros_cache_net.amqp.connection import RabbitLink
    from miros_cache_net.amqp.link_options import LinkOptions

    options = LinkOptions(
        heartbeat_s=settings.heartbeat_s,
        tls_ca_file=settings.tls_ca_file,
        tls_verify=settings.tls_verify,
        tls_certificate_file=settings.tls_certificate_file,
        tls_key_file=settings.tls_key_file,
        external_login=settings.external_login,
        # canary and digest both repair silent faults, so they share an interval
        canary_interval_s=settings.digest_interval_s,
    )
    name = f"miros-cache-net {settings.node_name}"
    return RabbitLink(topology, addresses, options=options, connection_name=name, share=share)
