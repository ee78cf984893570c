"""How the text of a setting becomes its value.

Every function raises `ValueError` with the second half of a sentence that starts with the setting's name.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from miros_cache_net import limits
from miros_cache_net.settings.environment import config_directory
from miros_cache_net.settings.networks import Network
from miros_cache_net.settings.which_file import cache_path

#: In the trusted networks and in the networks to discover: this machine's own subnets.
AUTO: Final = "auto"
_NODE_NAME: Final = re.compile(rf"[a-z0-9-]{{1,{limits.NODE_NAME_BYTES}}}")


def as_list(value: Any) -> list[Any]:
    """A list setting: a list, or text separated by commas or whitespace."""
    if isinstance(value, str):
        return [part for part in re.split(r"[,\s]+", value) if part]
    if isinstance(value, Iterable) and not isinstance(value, (bytes, dict)):
        return list(value)
    raise ValueError("must be a list, or text separated by commas")


def as_network(value: Any) -> Network:
    """A network in CIDR notation; a bare address stands for itself alone."""
    if isinstance(value, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
        return value
    try:
        return ipaddress.ip_network(str(value))
    except ValueError:
        pass
    try:
        inside = ipaddress.ip_interface(str(value)).network
    except ValueError:
        raise ValueError(f"contains {str(value)[:60]!r}, which is neither a network nor the word {AUTO!r}") from None
    raise ValueError(f"contains {str(value)!r}, an address inside a network: write {str(inside)!r}")


def as_prefix(value: Any) -> Any:
    """A prefix length, with or without a leading slash."""
    return value.strip().removeprefix("/") if isinstance(value, str) else value


def as_ipv4(value: Any) -> str:
    """An IPv4 address, or nothing."""
    try:
        return str(ipaddress.IPv4Address(str(value))) if value else ""
    except ValueError:
        raise ValueError(f"contains {str(value)[:60]!r}, which is not an IPv4 address") from None


def as_path(value: Any) -> Path:
    """An absolute path; ``~`` is the home directory, a relative path starts at the working directory."""
    text = str(value)
    if not text or "\0" in text:
        raise ValueError("is not a path")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"{text!r} starts with a home directory that does not exist") from None


def default_keys_file() -> Path | None:
    """The user's key file; None if there is no home directory."""
    directory = config_directory()
    return Path(directory, "keys") if directory else None


def as_cache_file(value: Any) -> Path:
    """The path of the cache file, in the form that everything that opens it uses."""
    return cache_path(as_path(value))


def as_unicode(value: str) -> str:
    """Text that UTF-8 can encode."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8") from None
    return value


def as_existing_file(value: Any) -> Path:
    """The path of an existing file."""
    path = as_path(value)
    try:
        there = path.is_file()
    except OSError:
        there = False
    if not there:
        raise ValueError(f"{str(path)!r} does not exist or is not a file")
    return path


def as_place_word(value: Any) -> str:
    """The name of a scope, document, site or exchange: printable, and short enough for AMQP."""
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("must be printable text")
    if len(value.encode()) > limits.PLACE_WORD_BYTES:
        raise ValueError(f"is longer than {limits.PLACE_WORD_BYTES} bytes")
    return value


def as_needed_word(value: Any) -> str:
    """A place word that must not be empty."""
    word = as_place_word(value)
    if not word:
        raise ValueError("must not be empty")
    return word


def as_host(value: Any) -> str:
    """A host to look for, ``host`` or ``host:port``; the error does not repeat text that may contain a password."""
    text = str(value)
    if "@" in text or "://" in text:
        raise ValueError("contains a URL: write host or host:port; user and password come from the settings")
    if not text.isprintable() or len(text) > limits.PLACE_WORD_BYTES:
        raise ValueError(f"contains {text[:60]!r}, which is neither host nor host:port")
    return text


def as_node_name(value: Any) -> str:
    """A node's name, which is part of every stamp."""
    if not isinstance(value, str) or not _NODE_NAME.fullmatch(value):
        raise ValueError(f"must be 1 to {limits.NODE_NAME_BYTES} lower-case letters, digits and hyphens")
    return value


def host_node_name(host: str | None = None) -> str:
    """A node name made from the host's name; a long name is cut and ends with a digest, so that it stays distinct."""
    host = socket.gethostname() if host is None else host
    name = re.sub(r"[^a-z0-9-]", "-", host.lower()) or "localhost"
    if len(name) <= limits.NODE_NAME_BYTES:
        return name
    digest = hashlib.sha256(host.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{name[: limits.NODE_NAME_BYTES - 9]}-{digest}"
