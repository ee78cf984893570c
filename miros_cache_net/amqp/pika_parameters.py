"""pika's connection parameters from an address and options."""

from __future__ import annotations

import socket
import ssl

import pika

from miros_cache_net.amqp.link_options import LinkOptions
from miros_cache_net.errors import SettingsError
from miros_cache_net.settings.broker_address import BrokerAddress


def tls_context(options: LinkOptions) -> ssl.SSLContext:
    """Raises `SettingsError` if the file of authorities cannot be used."""
    try:
        context = ssl.create_default_context(cafile=options.tls_ca_file)
    except OSError as error:  # SSLError is one
        raise SettingsError(
            f"cannot read certificate authorities from {options.tls_ca_file} "
            f"({error.strerror or 'no PEM file'}): correct MIROS_CACHE_TLS_CA_FILE"
        ) from None
    if not options.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def connection_parameters(
    address: BrokerAddress, options: LinkOptions, context: ssl.SSLContext | None, connection_name: str
) -> pika.ConnectionParameters:
    """For one attempt at one address: pika itself tries once; trying again is the link's business."""
    login = address.with_credentials("guest", "guest")
    return pika.ConnectionParameters(
        host=address.host,
        port=address.port,
        virtual_host=address.vhost,
        credentials=pika.PlainCredentials(login.user, login.password.reveal()),
        heartbeat=options.heartbeat_s,
        blocked_connection_timeout=options.blocked_timeout_s,
        socket_timeout=options.connect_timeout_s,
        stack_timeout=2 * options.connect_timeout_s,
        connection_attempts=1,
        ssl_options=pika.SSLOptions(context, address.host) if context is not None and address.tls else None,
        tcp_options=_tcp_options(options),
        client_properties={"connection_name": connection_name, "product": "miros-cache-net"},
    )


def _tcp_options(options: LinkOptions) -> dict[str, int]:
    """Unacknowledged bytes end a connection as soon as missing heartbeats would."""
    if not options.heartbeat_s or not hasattr(socket, "TCP_USER_TIMEOUT"):
        return {}
    return {"TCP_USER_TIMEOUT": (options.heartbeat_s + 5) * 1000}
