"""What pika reports of a broker, told in one line that says how to mend it: the table of mends."""

from __future__ import annotations

import ssl

import pytest
from pika import exceptions
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorAMQPHandshakeError,
    AMQPConnectorTransportSetupError,
)

from miros_cache_net.amqp.failures import NoGreeting, attempt_failed
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

PASSWORD = "hunter-two"
AT = BrokerAddress.parse(f"amqps://alice:{PASSWORD}@broker.example/site")


def closed(code: int, text: str) -> str:
    """What pika's guesses carry of a connection that the broker closed."""
    return repr(exceptions.ConnectionClosedByBroker(code, text))


def channel(code: int, text: str) -> exceptions.ChannelClosedByBroker:
    return exceptions.ChannelClosedByBroker(code, text)


def alert(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


LOST_TO_ALERT = repr(exceptions.StreamLostError(repr(alert("TLSV13_ALERT_CERTIFICATE_REQUIRED"))))
VHOST_FULL = "NOT_ALLOWED - access to vhost 'site' refused for user 'alice': connection limit (1) is reached"
USER_FULL = "NOT_ALLOWED - connection refused for user 'alice': user connection limit (1) is reached"
CERTIFICATE_REFUSED = "ACCESS_REFUSED - Login was refused using authentication mechanism EXTERNAL."

MENDS: list[tuple[BaseException, type[BrokerError], str]] = [
    (ConnectionRefusedError(111, "Connection refused"), BrokerUnreachable, "start it"),
    (NoGreeting(), BrokerUnreachable, "it hangs"),
    (exceptions.IncompatibleProtocolError("reset"), BrokerUnreachable, "MIROS_CACHE_TLS_CERTIFICATE_FILE"),
    (exceptions.IncompatibleProtocolError(LOST_TO_ALERT), TLSRefused, "MIROS_CACHE_TLS_CERTIFICATE_FILE"),
    (alert("SSLV3_ALERT_HANDSHAKE_FAILURE"), TLSRefused, "MIROS_CACHE_TLS_CERTIFICATE_FILE"),
    (alert("WRONG_VERSION_NUMBER"), TLSRefused, "is it a TLS port?"),
    (exceptions.AuthenticationError("PLAIN"), LoginRefused, "MIROS_CACHE_EXTERNAL_LOGIN=true"),
    (exceptions.AuthenticationError("EXTERNAL"), LoginRefused, "enable rabbitmq_auth_mechanism_ssl"),
    (exceptions.ProbableAuthenticationError(closed(403, "ACCESS_REFUSED")), LoginRefused, "RABBIT_PASSWORD"),
    (exceptions.ProbableAuthenticationError(closed(403, CERTIFICATE_REFUSED)), LoginRefused, "add_user"),
    (exceptions.ProbableAuthenticationError("StreamLostError"), BrokerUnreachable, "start it"),
    (
        exceptions.ProbableAccessDeniedError(closed(530, "NOT_ALLOWED - vhost not found")),
        VhostRefused,
        "add_vhost site",
    ),
    (exceptions.ProbableAccessDeniedError(closed(530, VHOST_FULL)), BrokerUnreachable, "clear_vhost_limits -p site"),
    (exceptions.ProbableAccessDeniedError(closed(530, USER_FULL)), BrokerUnreachable, "clear_user_limits alice"),
    (channel(403, "ACCESS_REFUSED - contains reserved prefix"), ExchangeConflict, "MIROS_CACHE_EXCHANGE"),
    (channel(403, "ACCESS_REFUSED - configure"), VhostRefused, "set_permissions -p site alice"),
    (channel(404, "NOT_FOUND - no exchange"), TopologyLost, "declared again"),
    (channel(404, "NOT_FOUND - home node is down or inaccessible"), BrokerUnreachable, "start it"),
    (channel(406, "PRECONDITION_FAILED - type for exchange"), ExchangeConflict, "MIROS_CACHE_EXCHANGE"),
    (channel(406, "PRECONDITION_FAILED - arg for queue"), QueueConflict, "delete it there"),
    (exceptions.ConnectionBlockedTimeout(), BrokerUnreachable, "free memory or disk"),
    (exceptions.ConnectionClosedByBroker(320, "CONNECTION_FORCED - bye"), BrokerUnreachable, "CONNECTION_FORCED - bye"),
]


@pytest.mark.parametrize(("cause", "kind", "mend"), MENDS, ids=[f"{n} {mend}" for n, (_, _, mend) in enumerate(MENDS)])
@pytest.mark.parametrize("wrapper", [None, AMQPConnectorAMQPHandshakeError, AMQPConnectorTransportSetupError])
def test_each_cause_is_told_with_its_mend(
    cause: BaseException, kind: type[BrokerError], mend: str, wrapper: type[BaseException] | None
) -> None:
    error = attempt_failed(AT, cause if wrapper is None else AMQPConnectionWorkflowFailed([wrapper(cause)]))
    assert type(error) is kind
    assert mend in str(error) and "broker.example" in str(error)
    assert PASSWORD not in str(error) and "\n" not in str(error)
