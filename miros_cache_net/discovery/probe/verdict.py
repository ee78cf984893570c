"""A probe's target and its result: values without behaviour."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from miros_cache_net.settings.broker_address import BrokerAddress
from miros_cache_net.settings.networks import LOOPBACK, Network

#: AMQP encodes an exchange's name as a short string.
_SHORT_STRING_BYTES: Final = 255


class Verdict(str, Enum):
    """A probe's result; all but `OK` and `CANCELLED` name the step that failed, in the order of the steps."""

    OK = "ok"
    UNRESOLVABLE = "unresolvable"  # The name has no address.
    NO_ROUTE = "no_route"  # No packet gets there.
    REFUSED = "refused"  # Nothing listens on the port.
    SILENT = "silent"  # No answer in time.
    NOT_AMQP = "not_amqp"  # The answer is not AMQP 0-9-1.
    NOT_RABBITMQ = "not_rabbitmq"  # AMQP, but another product.
    NOT_TRUSTED = "not_trusted"  # RabbitMQ answers, but the password may not be sent.
    TLS_MISMATCH = "tls_mismatch"  # TLS on one side only, or a certificate that is not accepted.
    LOGIN_REFUSED = "login_refused"
    NO_VHOST = "no_vhost"  # Missing, or not accessible to this user.
    NO_EXCHANGE = "no_exchange"
    NOBODY_ANSWERED = "nobody_answered"  # No node of this fleet is at that broker.
    WRONG_KEY = "wrong_key"  # A node listens there, but its answers do not open with our keys.
    CANCELLED = "cancelled"


class Challenge(Protocol):
    """A question that only a node of this fleet can answer; see `miros_cache_net.discovery.challenge`."""

    exchange: str
    routing_key: str
    key_id: str
    body: bytes

    def judge(self, answer: bytes) -> bool:
        """Whether `answer`, arbitrary bytes, is the answer to this question."""


@dataclass(frozen=True)
class ProbeTarget:
    """One address to probe.  Its `str` and `repr` hide the password.

    address         host, port, virtual host, login, and whether to use TLS
    exchange        name of the exchange that must exist there (its type does not matter)
    timeout_s       limit for the whole probe, from the moment it starts
    send_password   False: stop at RabbitMQ's greeting, whatever the server
    networks        where the password may be sent without verified TLS
    tls_context     used if ``address.tls``; None: the machine's certificate authorities
    external_login  log in with the client certificate in `tls_context` (EXTERNAL): no password is sent
    challenge       the question that a node at that broker must answer; None: the exchange is enough
    """

    address: BrokerAddress
    exchange: str
    timeout_s: float = 1.0
    send_password: bool = True
    networks: tuple[Network, ...] = LOOPBACK
    tls_context: ssl.SSLContext | None = None
    challenge: Challenge | None = None
    external_login: bool = False

    def __post_init__(self) -> None:
        if len(self.exchange.encode()) > _SHORT_STRING_BYTES:
            raise ValueError(f"the exchange's name is longer than {_SHORT_STRING_BYTES} bytes")


@dataclass(frozen=True)
class ProbeResult:
    """The result for one `ProbeTarget`.

    host, port    those of the target
    detail        one line for people; contains no secret and no unfiltered text from the other side
    address       the numeric address dialled last, "" if none
    round_trip_s  duration of the TCP connect, None without one
    server        RabbitMQ's product name and version, "" if no RabbitMQ answered
    """

    host: str
    port: int
    verdict: Verdict
    detail: str
    address: str = ""
    round_trip_s: float | None = None
    server: str = ""

    @property
    def ok(self) -> bool:
        return self.verdict is Verdict.OK
