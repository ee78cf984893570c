"""How the text of a setting becomes its value.

Every function raises `ValueError` with the second half of a sentence that begins with the setting's name.
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
from miros_cache_net.settings.networks import Network
from miros_cache_net.settings.which_file import cache_path

#: In the list of trusted networks: the subnets that this machine is in.
AUTO: Final = "auto"
_NODE_NAME: Final = re.compile(rf"[a-z0-9-]{{1,{limits.NODE_NAME_BYTES}}}")


def as_list(value: Any) -> list[Any]:
    """A list setting: a list, or text divided by commas or white space."""
    if isinstance(value, str):
        return [part for part in re.split(r"[,\s]+", value) if part]
    if isinstance(value, Iterable) and not isinstance(value, (bytes, dict)):
        return list(value)
    raise ValueError("must be a list, or text divided by commas")


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
        raise ValueError(f"holds {str(value)[:60]!r}, which is no network and not the word {AUTO!r}") from None
    raise ValueError(f"holds {str(value)!r}, an address inside a network: write {str(inside)!r}")


def as_prefix(value: Any) -> Any:
    """A prefix length, with or without the slash that people write before it."""
    return value.strip().removeprefix("/") if isinstance(value, str) else value


def as_path(value: Any) -> Path:
    """An absolute path; ``~`` is the home directory, a relative path begins at the working directory."""
    text = str(value)
    if not text or "\0" in text:
        raise ValueError("is no path")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"{text!r} begins with a home directory that cannot be found") from None


def as_cache_file(value: Any) -> Path:
    """The path of the cache file, as everything that opens it has it."""
    return cache_path(as_path(value))


def as_unicode(value: str) -> str:
    """Text that UTF-8 can carry."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8") from None
    return value


def as_existing_file(value: Any) -> Path:
    """The path of a file that is there."""
    path = as_path(value)
    try:
        there = path.is_file()
    except OSError:
        there = False
    if not there:
        raise ValueError(f"{str(path)!r} is not there or no file")
    return path


def as_place_word(value: Any) -> str:
    """The name of a scope, document, site or exchange: printable, and short enough for AMQP."""
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("must be printable text")
    if len(value.encode()) > limits.PLACE_WORD_BYTES:
        raise ValueError(f"takes more than {limits.PLACE_WORD_BYTES} bytes")
    return value


def as_needed_word(value: Any) -> str:
    """A place word that may not be empty."""
    word = as_place_word(value)
    if not word:
        raise ValueError("must not be empty")
    return word


def as_node_name(value: Any) -> str:
    """A node's name, which stands in every stamp."""
    if not isinstance(value, str) or not _NODE_NAME.fullmatch(value):
        raise ValueError(f"must be 1 to {limits.NODE_NAME_BYTES} lower-case letters, digits and hyphens")
    return value


def host_node_name(host: str | None = None) -> str:
    """A node name made of the host's name.  Long ones keep apart by a digest of what is cut off."""
    host = socket.gethostname() if host is None else host
    name = re.sub(r"[^a-z0-9-]", "-", host.lower()) or "localhost"
    if len(name) <= limits.NODE_NAME_BYTES:
        return name
    digest = hashlib.sha256(host.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{name[: limits.NODE_NAME_BYTES - 9]}-{digest}"
