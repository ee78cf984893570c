"""Where a RabbitMQ broker is and who logs in there: one AMQP URL as a value.

A password given in a URL stays inside a `Secret`: no text form of an address shows it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

from miros_cache_net.errors import SettingsError

_SHAPE: Final = "expected amqp://user:password@host:port/vhost or amqps://..."
_PORTS: Final = {"amqp": 5672, "amqps": 5671}


class Secret:
    """A text that shows as ``***`` wherever it is printed; `reveal` gives it to whom it is meant for."""

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
    user      "" where none is named
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

        Options after ``?`` (which `pika` and the older library knew) are accepted and have no effect.
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
        """This address with `user` and `password` where it names none of its own (each for itself)."""
        given = password if isinstance(password, Secret) else Secret(password)
        return replace(self, user=self.user or user, password=self.password or given)

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
    return SettingsError(f"malformed broker URL: {what}; {_SHAPE}, with @ : / ? # in names percent-encoded")


def _split(text: str) -> SplitResult:
    if not text:
        raise _refused("it is empty")
    if any(c.isspace() or not c.isprintable() for c in text):
        raise _refused("white space or an unprintable character in it")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise _refused("the brackets around the host are wrong") from None
    if parts.scheme not in _PORTS:
        raise _refused("it does not begin with amqp:// or amqps://")
    if parts.fragment or "#" in text or "@" in parts.path or "@" in parts.query:
        raise _refused("a part of it stands after the host where only a virtual host belongs")
    return parts


def _host(parts: SplitResult) -> str:
    host = _decoded(parts.hostname or "", "host")
    if not host:
        raise _refused("no host")
    if len(host) > 255 or any(c in host for c in "/@?#\\"):
        raise _refused("the host is no name and no IP address")
    return host


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port is None:
        return _PORTS[parts.scheme]
    if not 1 <= port <= 65535:
        raise _refused("the port is no number from 1 to 65535")
    return port


def _vhost(parts: SplitResult) -> str:
    path = parts.path.removeprefix("/")
    if "/" in path:
        raise _refused("more than one / in the virtual host")
    vhost = _decoded(path, "virtual host") or "/"
    if len(vhost.encode()) > 255:
        raise _refused("a virtual host of more than 255 bytes")
    return vhost


def _decoded(text: str, what: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise _refused(f"the {what} is not percent-encoded UTF-8") from None
