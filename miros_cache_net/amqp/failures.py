"""Turns what pika reports into one `BrokerError`, with one line that says how to fix it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator
from typing import Any, Final

from pika import exceptions
from pika.adapters.utils.connection_workflow import AMQPConnectorStackTimeout

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
_TIMED_OUT: Final = "timed out"
_DROPPED: Final = "connection lost"
_Tell = Callable[[BrokerAddress, Any], BrokerError | None]
#: A broker's alert to a client that lacks a required certificate: TLS 1.3, then 1.2.
_WANTS_CERTIFICATE: Final = ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE")
_NOT_OFFERED: Final = {
    "PLAIN": "accepts no passwords (it does not offer PLAIN): log in by client certificate with "
    "MIROS_CACHE_EXTERNAL_LOGIN=true, or add PLAIN to auth_mechanisms in its configuration",
    "EXTERNAL": "accepts no login by client certificate (it does not offer EXTERNAL): use amqps://, and there "
    "rabbitmq-plugins enable rabbitmq_auth_mechanism_ssl, with EXTERNAL in auth_mechanisms; or unset "
    "MIROS_CACHE_EXTERNAL_LOGIN",
}


class NoGreeting(TimeoutError):
    """The peer took the connection but sent no greeting."""


def attempt_failed(address: BrokerAddress, error: BaseException) -> BrokerError:
    """Why a link to `address` could not be made or was lost, given what pika said."""
    causes = list(_causes(error))
    for cause in causes:
        found = _telling(address, cause)
        if found is not None:
            return found
    said = _said(causes[-1])
    return BrokerUnreachable(
        f"RabbitMQ at {address} does not answer ({said})",
        mend=f"start it, or correct {_URL}",
        may_be_busy=said in (_TIMED_OUT, _DROPPED),
    )


def _telling(address: BrokerAddress, cause: BaseException) -> BrokerError | None:
    told = next((tell for kinds, tell in _TELLS if isinstance(cause, kinds)), None)
    return told(address, cause) if told is not None else None


def _hangs(address: BrokerAddress, _cause: NoGreeting) -> BrokerError:
    return BrokerUnreachable(
        f"the server at {address} accepts connections but sends nothing: it hangs, or is not RabbitMQ",
        mend=f"check its log and restart it, or correct {_URL}",
        may_be_busy=True,
    )


def _no_amqp(address: BrokerAddress, cause: exceptions.IncompatibleProtocolError) -> BrokerError:
    if "CERTIFICATE_REQUIRED" in str(cause.args):
        return _certificate_wanted(address)
    # the alert that says why can get lost
    hint = ", or requires a client certificate (MIROS_CACHE_TLS_CERTIFICATE_FILE)" if address.tls else ""
    return BrokerUnreachable(
        f"the server at {address} does not speak AMQP 0-9-1, or was shutting down{hint}",
        mend=f"correct the host and port in {_URL}",
    )


def _takes_nothing(address: BrokerAddress, _cause: exceptions.ConnectionBlockedTimeout) -> BrokerError:
    return BrokerUnreachable(f"RabbitMQ at {address} accepts no messages", mend="free memory or disk there")


def _ended(address: BrokerAddress, cause: exceptions.ConnectionClosedByBroker) -> BrokerError:
    return BrokerUnreachable(f"RabbitMQ at {address} closed the connection: {_words(cause)}")


def _no_login(address: BrokerAddress, cause: exceptions.AMQPConnectionError) -> BrokerError | None:
    if cause.args and cause.args[0] in _NOT_OFFERED:
        return LoginRefused(f"RabbitMQ at {address} {_NOT_OFFERED[cause.args[0]]}")
    # Unless the broker said so, the connection was merely lost at that moment.
    return _login_refused(address, _quoted(cause)) if _by_broker(cause) or not cause.args else None


def _no_access(address: BrokerAddress, cause: exceptions.ProbableAccessDeniedError) -> BrokerError | None:
    return _vhost_refused(address, _quoted(cause)) if _by_broker(cause) else None


def _certificate_wanted(address: BrokerAddress) -> TLSRefused:
    return TLSRefused(
        f"the broker at {address} requires a client certificate",
        mend="set MIROS_CACHE_TLS_CERTIFICATE_FILE to one that it accepts, and MIROS_CACHE_TLS_KEY_FILE to its key",
    )


def _login_refused(address: BrokerAddress, text: str) -> LoginRefused:
    if "mechanism EXTERNAL" in text:
        return LoginRefused(
            f"RabbitMQ at {address} refused the name in the client certificate ({text})",
            mend="create that user with `rabbitmqctl add_user`, or check ssl_cert_login_from in its configuration",
        )
    hint = ""
    if address.user == "guest" and address.host not in ("localhost", "127.0.0.1", "::1"):
        hint = " (guest may log in only on the broker's own machine: `rabbitmqctl add_user` makes another)"
    return LoginRefused(
        f"RabbitMQ at {address} refused the user name or password{hint}",
        mend=f"correct them in {_URL}, or in RABBIT_USER and RABBIT_PASSWORD",
    )


def _vhost_refused(address: BrokerAddress, text: str) -> BrokerError:
    vhost, user = address.vhost, address.user
    if "connection limit" in text:
        # each link has two connections
        command = (
            "clear_user_limits {user} max-connections"
            if "user connection limit" in text
            else ("clear_vhost_limits -p {vhost}")
        )
        return BrokerUnreachable(
            f"RabbitMQ at {address} accepts no more connections ({text})",
            mend=f"close some, or run there: rabbitmqctl {command.format(user=user, vhost=vhost)}",
        )
    return VhostRefused(
        f"RabbitMQ at {address} denies {user!r} access to virtual host {vhost!r} ({text})",
        mend=f"correct {_URL}, or run there: "
        f"rabbitmqctl add_vhost {vhost}; rabbitmqctl set_permissions -p {vhost} {user} '.*' '.*' '.*'",
    )


def _tls_refused(address: BrokerAddress, cause: ssl.SSLError) -> TLSRefused:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return TLSRefused(
            f"the certificate of {address} was rejected ({cause.verify_message})",
            mend=f"use the host name that it names in {_URL}, or set the authority that signed it in "
            "MIROS_CACHE_TLS_CA_FILE",
        )
    if cause.reason in _WANTS_CERTIFICATE:
        return _certificate_wanted(address)
    return TLSRefused(f"TLS with {address} failed ({cause.reason or _said(cause)}): is it a TLS port? Correct {_URL}")


def _channel_refused(address: BrokerAddress, cause: exceptions.ChannelClosedByBroker) -> BrokerError | None:
    text = _words(cause)
    if cause.reply_code == 404 and "is down or inaccessible" in text:
        return BrokerUnreachable(f"a broker of the cluster at {address} is down ({text})", mend="start it there")
    if cause.reply_code == 406 and "for exchange" in text:
        return ExchangeConflict(
            f"an exchange at {address} has another type or durability ({text})",
            mend="delete it there, or name another in MIROS_CACHE_EXCHANGE",
        )
    if cause.reply_code == 406 and "for queue" in text:
        return QueueConflict(f"a queue at {address} has other arguments ({text})", mend="delete it there")
    if cause.reply_code == 403 and "contains reserved prefix" in text:
        return ExchangeConflict(
            f"RabbitMQ at {address} reserves names like this one ({text})", mend="name another in MIROS_CACHE_EXCHANGE"
        )
    if cause.reply_code == 403:
        return VhostRefused(
            f"RabbitMQ at {address} does not let {address.user!r} declare or use its exchanges and queues ({text})",
            mend=f"run there: rabbitmqctl set_permissions -p {address.vhost} {address.user} '.*' '.*' '.*'",
        )
    if cause.reply_code == 404:
        return TopologyLost(f"a queue or exchange of the link was deleted at {address} ({text}); it is declared again")
    return BrokerUnreachable(f"RabbitMQ at {address} closed a channel: {text}")


#: How to report each cause; the first match wins.
_TELLS: Final[tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], _Tell], ...]] = (
    (NoGreeting, _hangs),
    (ssl.SSLError, _tls_refused),
    ((exceptions.ProbableAuthenticationError, exceptions.AuthenticationError), _no_login),
    (exceptions.ProbableAccessDeniedError, _no_access),
    (exceptions.IncompatibleProtocolError, _no_amqp),
    (exceptions.ChannelClosedByBroker, _channel_refused),
    (exceptions.ConnectionBlockedTimeout, _takes_nothing),
    (exceptions.ConnectionClosedByBroker, _ended),
)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and all that it wraps, outermost first; pika wraps exceptions in arguments."""
    yield error
    for inner in (*getattr(error, "exceptions", ()), *error.args):
        if isinstance(inner, BaseException):
            yield from _causes(inner)
    inner = getattr(error, "exception", None)
    if isinstance(inner, BaseException) and inner not in error.args:
        yield from _causes(inner)


def _by_broker(cause: BaseException) -> bool:
    """Whether the broker itself closed the connection: pika's "probable" errors carry the original's text."""
    return "ConnectionClosedByBroker" in str(cause.args)


def _quoted(guess: BaseException) -> str:
    """The broker's own words in one of pika's "probable" errors, which hold them as text only; on one line."""
    found = re.search(r"""ConnectionClosedByBroker: \((\d+)\) ['"](.*)['"]""", str(guess.args), re.DOTALL)
    return "" if found is None else f"{found[1]} {' '.join(found[2].split())[:300]}"


def _said(cause: BaseException) -> str:
    # ConnectionOpenAborted: pika itself aborts a login that takes too long; nobody else does.
    if isinstance(cause, AMQPConnectorStackTimeout | TimeoutError | exceptions.ConnectionOpenAborted):
        return _TIMED_OUT
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    if isinstance(cause, exceptions.AMQPHeartbeatTimeout):
        return "no heartbeat"
    if isinstance(cause, exceptions.StreamLostError):
        return _DROPPED
    return type(cause).__name__


def _words(cause: exceptions.ChannelClosedByBroker | exceptions.ConnectionClosedByBroker) -> str:
    """The broker's own, on one line."""
    return f"{cause.reply_code} {' '.join(str(cause.reply_text).split())[:300]}"
