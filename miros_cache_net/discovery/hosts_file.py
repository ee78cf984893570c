"""The hosts file: a hand-written list of brokers, ``{"hosts": ["alpha.lab", "10.0.0.7:5673", ...]}``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from miros_cache_net import limits
from miros_cache_net.discovery.peers import split_peer
from miros_cache_net.document.strict_json import loads
from miros_cache_net.errors import DocumentError

DEFAULT_FILE: Final = ".miros_rabbitmq_hosts.json"


class HostsFile(NamedTuple):
    """A hosts file's contents: its hosts, without duplicates and in order, and one line for each invalid entry."""

    hosts: tuple[str, ...] = ()
    complaints: tuple[str, ...] = ()


def read_hosts(path: str | os.PathLike[str]) -> HostsFile:
    """Read a hosts file; a missing file has no hosts.

    An entry is ``host`` or ``host:port`` (``[v6]:port``); `host` is a name or an address.  Other keys of the file are
    ignored.  Raises `DocumentError` if it is not a hosts file, `OSError` if it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(limits.HOSTS_FILE_BYTES + 1)
    except FileNotFoundError:
        return HostsFile()
    try:
        return _hosts_of(loads(data, max_bytes=limits.HOSTS_FILE_BYTES), Path(path).name)
    except DocumentError as error:
        raise DocumentError(f"{os.fspath(path)}: {error}") from None


def _hosts_of(document: Any, name: str) -> HostsFile:
    entries = document.get("hosts") if isinstance(document, Mapping) else None
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise DocumentError('it must hold {"hosts": [...]}, a list of names or addresses')
    hosts: dict[str, None] = {}
    complaints = []
    for number, entry in enumerate(entries, 1):
        wrong = _complaint(entry)
        if wrong:
            complaints.append(f"{name}: host {number} {wrong}")
        elif len(hosts) >= limits.LAN_PEERS:
            complaints.append(f"{name}: only its first {limits.LAN_PEERS} hosts are tried")
            break
        else:
            hosts[entry] = None
    return HostsFile(tuple(hosts), tuple(complaints))


def _complaint(entry: Any) -> str:
    """The second half of a sentence, "" for a valid entry; never quotes text that could contain a password."""
    if not isinstance(entry, str):
        return "must be text: host or host:port"
    if "@" in entry or "://" in entry:
        return "is a URL: write host or host:port; user and password come from the settings"
    try:
        split_peer(entry)
    except ValueError as error:
        return f"is wrong: {error}"
    return ""
