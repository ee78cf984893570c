"""What pika reports, as one `BrokerError` with one line that says how to mend it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from pika import exceptions
from pika.adapters.utils.connection_workflow import AMQPConnectorStackTimeout

from miros_cache_net.amqp.link import Place
from miros_cache_net.errors import (
    BrokerError,
    BrokerUnreachable,
    ExchangeConflict,
    LoginRefused,
    QueueConflict,
    TLSRefused,
    TopologyLost,
    VhostRefused,
)
from miros_cache_net.settings.broker_address import BrokerAddress

_URL = "MIROS_CACHE_AMQP_URL"


def attempt_failed(address: BrokerAddress, error: BaseException, place: Place) -> BrokerError:
    """Why a link to `address` could not be made or was lost, given what pika said."""
    causes = list(_causes(error))
    for cause in causes:
        found = _telling(address, cause, place)
        if found is not None:
            return found
    return BrokerUnreachable(
        f"no answer of RabbitMQ at {address} ({_said(causes[-1])}): start it there, or correct {_URL}"
    )


def _telling(address: BrokerAddress, cause: BaseException, place: Place) -> BrokerError | None:
    if isinstance(cause, ssl.SSLError):
        return _tls_refused(address, cause)
    if isinstance(cause, exceptions.ProbableAuthenticationError | exceptions.AuthenticationError):
        # Without the broker's own word the connection was merely lost in that moment.
        return _login_refused(address) if _by_broker(cause) or not cause.args else None
    if isinstance(cause, exceptions.ProbableAccessDeniedError):
        return _vhost_refused(address, cause) if _by_broker(cause) else None
    if isinstance(cause, exceptions.IncompatibleProtocolError):
        return BrokerUnreachable(
            f"what answers at {address} speaks no AMQP 0-9-1, or was just going down: correct host and port in {_URL}"
        )
    if isinstance(cause, exceptions.ChannelClosedByBroker):
        return _channel_refused(address, cause, place)
    if isinstance(cause, exceptions.ConnectionBlockedTimeout):
        return BrokerUnreachable(f"RabbitMQ at {address} takes no messages: free memory or disk there")
    if isinstance(cause, exceptions.ConnectionClosedByBroker):
        return BrokerUnreachable(f"RabbitMQ at {address} ended the connection: {_words(cause)}")
    return None


def _login_refused(address: BrokerAddress) -> LoginRefused:
    hint = ""
    if address.user == "guest" and address.host not in ("localhost", "127.0.0.1", "::1"):
        hint = " (guest may come from its own machine only: rabbitmqctl add_user makes another)"
    return LoginRefused(
        f"RabbitMQ at {address} refused the user or the password{hint}: "
        f"correct them in {_URL}, or RABBIT_USER and RABBIT_PASSWORD"
    )


def _vhost_refused(address: BrokerAddress, cause: BaseException) -> VhostRefused:
    vhost, user = address.vhost, address.user
    return VhostRefused(
        f"RabbitMQ at {address} does not let {user!r} into virtual host {vhost!r}: correct {_URL}, or there: "
        f"rabbitmqctl add_vhost {vhost}; rabbitmqctl set_permissions -p {vhost} {user} '.*' '.*' '.*'"
    )


def _tls_refused(address: BrokerAddress, cause: ssl.SSLError) -> TLSRefused:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return TLSRefused(
            f"the certificate at {address} was not accepted ({cause.verify_message}): name the host that it is made "
            f"out to in {_URL}, or the authority that signed it in MIROS_CACHE_TLS_CA_FILE"
        )
    return TLSRefused(f"no TLS with {address} ({cause.reason or _said(cause)}): is it a TLS port? Correct {_URL}")


def _channel_refused(
    address: BrokerAddress, cause: exceptions.ChannelClosedByBroker, place: Place
) -> BrokerError | None:
    text = _words(cause)
    if cause.reply_code == 404 and "is down or inaccessible" in text:
        return BrokerUnreachable(f"a broker of the cluster at {address} is down ({text}): start it there")
    if cause.reply_code == 406 and "for exchange" in text:
        return ExchangeConflict(
            f"exchange {place.exchange!r} at {address} is not a durable topic exchange ({text}): delete it there, or "
            "name another in MIROS_CACHE_EXCHANGE"
        )
    if cause.reply_code == 406 and "for queue" in text:
        return QueueConflict(f"a queue at {address} has other arguments ({text}): delete it there")
    if cause.reply_code == 403:
        return VhostRefused(
            f"RabbitMQ at {address} does not let {address.user!r} declare or use what it needs ({text}); there: "
            f"rabbitmqctl set_permissions -p {address.vhost} {address.user} '.*' '.*' '.*'"
        )
    if cause.reply_code == 404:
        return TopologyLost(f"somebody deleted what the link uses at {address} ({text}): it is declared again")
    return BrokerUnreachable(f"RabbitMQ at {address} closed a channel: {text}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and all that it wraps, the outermost first; pika wraps by arguments."""
    yield error
    for inner in (*getattr(error, "exceptions", ()), *error.args):
        if isinstance(inner, BaseException):
            yield from _causes(inner)
    inner = getattr(error, "exception", None)
    if isinstance(inner, BaseException) and inner not in error.args:
        yield from _causes(inner)


def _by_broker(cause: BaseException) -> bool:
    """pika's guesses carry the text of what it guessed from."""
    return "ConnectionClosedByBroker" in str(cause.args)


def _said(cause: BaseException) -> str:
    # ConnectionOpenAborted: pika itself aborts a login that takes too long; nobody else does.
    if isinstance(cause, AMQPConnectorStackTimeout | TimeoutError | exceptions.ConnectionOpenAborted):
        return "timed out"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    if isinstance(cause, exceptions.AMQPHeartbeatTimeout):
        return "no heartbeat"
    if isinstance(cause, exceptions.StreamLostError):
        return "connection lost"
    return type(cause).__name__


def _words(cause: exceptions.ChannelClosedByBroker | exceptions.ConnectionClosedByBroker) -> str:
    """The broker's own, on one line."""
    return f"{cause.reply_code} {' '.join(str(cause.reply_text).split())[:300]}"
