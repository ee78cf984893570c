"""A RabbitMQ broker's address and login: one AMQP URL as a value.

A password from a URL stays inside a `Secret`: no text form of an address shows it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

from miros_cache_net.errors import SettingsError
from miros_cache_net.settings.networks import Network

_SHAPE: Final = "expected amqp://user:password@host:port/vhost or amqps://..."
_PORTS: Final = {"amqp": 5672, "amqps": 5671}


class Secret:
    """A text that prints as ``***``; `reveal` returns it for the code that needs it."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__


@dataclass(frozen=True)
class BrokerAddress:
    """One broker.  `str` and `repr` never show the password.

    host      a name or an IP address (IPv6 without brackets)
    port      1 to 65535
    vhost     virtual host, "/" by default
    user      "" if none is named
    tls       amqps: encrypted, the certificate verified
    """

    host: str
    port: int = 5672
    vhost: str = "/"
    user: str = ""
    password: Secret = field(default_factory=Secret)
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> BrokerAddress:
        """The address that an AMQP URL names.

        Options after ``?`` (known to `pika` and the older library) are accepted and have no effect.
        A missing port is 5672, with TLS 5671; an empty path is the virtual host "/".
        Raises `SettingsError`: one line, without any part of `text`, since a password may be anywhere in it.
        """
        parts = _split(text.strip())
        return cls(
            host=_host(parts),
            port=_port(parts),
            vhost=_vhost(parts),
            user=_decoded(parts.username or "", "user"),
            password=Secret(_decoded(parts.password or "", "password")),
            tls=parts.scheme == "amqps",
        )

    def with_credentials(self, user: str, password: str | Secret) -> BrokerAddress:
        """This address with `user` and `password`, each only if the address names none of its own."""
        given = password if isinstance(password, Secret) else Secret(password)
        return replace(self, user=self.user or user, password=self.password or given)

    def is_within(self, networks: Iterable[Network]) -> bool:
        """Whether its host is `localhost` or an address in one of `networks`; no name is resolved."""
        if self.host == "localhost":
            return True
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return any(address in network for network in networks)

    @property
    def redacted(self) -> str:
        """The URL without password, for logs and messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        path = "" if self.vhost == "/" else "/" + quote(self.vhost, safe="")
        return f"{'amqps' if self.tls else 'amqp'}://{user}{host}:{self.port}{path}"

    def __str__(self) -> str:
        return self.redacted

    def __repr__(self) -> str:
        return f"BrokerAddress({self.redacted!r})"


def _refused(what: str) -> SettingsError:
    encoded = "with @ : / ? # in names and passwords percent-encoded, and a comma as %2C"
    return SettingsError(f"malformed broker URL: {what}; {_SHAPE}, {encoded}")


def _split(text: str) -> SplitResult:
    if not text:
        raise _refused("it is empty")
    if any(c.isspace() or not c.isprintable() for c in text):
        raise _refused("it contains whitespace or an unprintable character")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise _refused("the brackets around the host are wrong") from None
    if parts.scheme not in _PORTS:
        raise _refused("it does not begin with amqp:// or amqps://")
    if parts.fragment or "#" in text or "@" in parts.path or "@" in parts.query:
        raise _refused("only a virtual host may follow the host")
    return parts


def _host(parts: SplitResult) -> str:
    host = _decoded(parts.hostname or "", "host")
    if not host:
        raise _refused("no host")
    if len(host) > 255 or any(c in host for c in "/@?#\\"):
        raise _refused("the host is neither a name nor an IP address")
    return host


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port is None:
        return _PORTS[parts.scheme]
    if not 1 <= port <= 65535:
        raise _refused("the port is not a number from 1 to 65535")
    return port


def _vhost(parts: SplitResult) -> str:
    path = parts.path.removeprefix("/")
    if "/" in path:
        raise _refused("more than one / in the virtual host")
    vhost = _decoded(path, "virtual host") or "/"
    if len(vhost.encode()) > 255:
        raise _refused("the virtual host is longer than 255 bytes")
    return vhost


def _decoded(text: str, what: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise _refused(f"the {what} is not percent-encoded UTF-8") from None
