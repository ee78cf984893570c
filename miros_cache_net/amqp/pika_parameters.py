"""pika's connection parameters from an address and options."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pika

from miros_cache_net.amqp.link_options import LinkOptions
from miros_cache_net.errors import SettingsError
from miros_cache_net.settings.broker_address import BrokerAddress


def tls_context(options: LinkOptions) -> ssl.SSLContext:
    """Raises `SettingsError` if the file of authorities, or the client's certificate or key, cannot be used."""
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
    if options.tls_certificate_file is not None:
        _load_own_certificate(context, options.tls_certificate_file, options.tls_key_file)
    return context


def _load_own_certificate(context: ssl.SSLContext, certificate_file: Path, key_file: Path | None) -> None:
    try:
        # with no password given, OpenSSL would prompt on the terminal
        context.load_cert_chain(certificate_file, key_file, password="")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else ""
        files = str(certificate_file) if key_file is None else f"{certificate_file} and {key_file}"
        raise SettingsError(
            f"cannot use the client certificate in {files} ({why or 'no PEM certificate with its key, unencrypted'}): "
            "correct MIROS_CACHE_TLS_CERTIFICATE_FILE and MIROS_CACHE_TLS_KEY_FILE"
        ) from None


def connection_parameters(
    address: BrokerAddress,
    host: str,
    options: LinkOptions,
    context: ssl.SSLContext | None,
    connection_name: str,
    patience: float = 1.0,
) -> pika.ConnectionParameters:
    """Parameters for one attempt at `host`, one IP address of the broker; the link does the retrying, not pika.

    patience  how many times longer than usual all that follows the TCP connect may take
    """
    return pika.ConnectionParameters(
        host=host,
        port=address.port,
        virtual_host=address.vhost,
        credentials=_credentials(address, options),
        heartbeat=options.heartbeat_s,
        blocked_connection_timeout=options.blocked_timeout_s,
        socket_timeout=options.connect_timeout_s,
        stack_timeout=2 * options.connect_timeout_s * patience,
        connection_attempts=1,
        ssl_options=pika.SSLOptions(context, address.host) if context is not None and address.tls else None,
        tcp_options=_tcp_options(options),
        client_properties={"connection_name": connection_name, "product": "miros-cache-net"},
    )


def _credentials(address: BrokerAddress, options: LinkOptions) -> Any:
    if options.external_login:
        return pika.credentials.ExternalCredentials()
    login = address.with_credentials("guest", "guest")
    return pika.PlainCredentials(login.user, login.password.reveal())


def _tcp_options(options: LinkOptions) -> dict[str, int]:
    """Let unacknowledged bytes end a connection as soon as missing heartbeats would."""
    if not options.heartbeat_s or not hasattr(socket, "TCP_USER_TIMEOUT"):
        return {}
    return {"TCP_USER_TIMEOUT": (options.heartbeat_s + 5) * 1000}
