"""What a probe is asked, and what it answers: values without behaviour."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from miros_cache_net.settings.broker_address import BrokerAddress
from miros_cache_net.settings.networks import LOOPBACK, Network

#: The name of an exchange travels as an AMQP short string.
_SHORT_STRING_BYTES: Final = 255


class Verdict(str, Enum):
    """What a probe found; all but `OK` name the step that said no."""

    OK = "ok"
    UNRESOLVABLE = "unresolvable"  # the name has no address
    NO_ROUTE = "no_route"  # no packet gets there
    REFUSED = "refused"  # nothing listens on the port
    SILENT = "silent"  # no answer in the time given
    NOT_AMQP = "not_amqp"  # something answers, but it is no AMQP 0-9-1
    NOT_RABBITMQ = "not_rabbitmq"  # AMQP of another product
    NOT_TRUSTED = "not_trusted"  # RabbitMQ seen, password not sent
    TLS_MISMATCH = "tls_mismatch"  # TLS on one side only, or a certificate that is not accepted
    LOGIN_REFUSED = "login_refused"
    NO_VHOST = "no_vhost"  # absent, or closed to this user
    NO_EXCHANGE = "no_exchange"
    NOBODY_ANSWERED = "nobody_answered"  # no node of ours at that broker
    WRONG_KEY = "wrong_key"  # somebody listens for us there, but gives no answer that our keys open
    CANCELLED = "cancelled"


class Challenge(Protocol):
    """A question that only a node of ours can answer; see `miros_cache_net.discovery.challenge`."""

    exchange: str
    routing_key: str
    key_id: str
    body: bytes

    def judge(self, answer: bytes) -> bool:
        """Whether `answer` is the answer to this very question; any bytes may come."""


@dataclass(frozen=True)
class ProbeTarget:
    """One address to try.  Its text forms show no password.

    address        where, which virtual host, who logs in, whether in TLS
    exchange       name of the exchange that must exist there (its type does not matter)
    timeout_s      bound on the whole probe, from the moment its turn comes
    send_password  False: stop at RabbitMQ's greeting, whoever it is
    networks       where the password may be sent without verified TLS
    tls_context    what to dial with where ``address.tls``; None: the machine's own certificate authorities
    challenge      what a node of ours at that broker has to answer; None: the exchange is enough
    """

    address: BrokerAddress
    exchange: str
    timeout_s: float = 1.0
    send_password: bool = True
    networks: tuple[Network, ...] = LOOPBACK
    tls_context: ssl.SSLContext | None = None
    challenge: Challenge | None = None

    def __post_init__(self) -> None:
        if len(self.exchange.encode()) > _SHORT_STRING_BYTES:
            raise ValueError(f"the exchange's name is longer than {_SHORT_STRING_BYTES} bytes")


@dataclass(frozen=True)
class ProbeResult:
    """The answer to one `ProbeTarget`.

    host, port    as asked
    detail        one line for a person; nothing in it comes unfiltered from the other side, no secret
    address       the numeric address that was dialled last, "" if none
    round_trip_s  duration of the TCP connect, None where none was made
    server        product and version as RabbitMQ calls itself, "" where none was seen
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
