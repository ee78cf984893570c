"""The neighbour table: the machines on this machine's own links with which it has communicated, IPv4 and IPv6.

On Linux it takes one read-only netlink request, or ``/proc/net/arp`` if a sandbox forbids that.  Other systems (macOS)
offer the table only through a program or undocumented structures, so there it reads as empty: a sweep then knows no
likely addresses in advance, and finds no IPv6 neighbours.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, sender
_NEIGHBOUR: Final = struct.Struct("=BxxxiHBB")  # ndmsg: family, interface, state, flags, type
_ATTRIBUTE: Final = struct.Struct("=HH")  # nlattr: length, type
_GET_NEIGHBOURS, _NEW_NEIGHBOUR, _ERROR, _DONE = 30, 28, 2, 3
_REQUEST_DUMP: Final = 0x301
_ADDRESS, _HARDWARE_ADDRESS = 1, 2
_FAILED: Final = 0x20
#: The states with a hardware address: reachable, stale, delay, probe, permanent.
_KNOWN: Final = 0x02 | 0x04 | 0x08 | 0x10 | 0x80
_ANSWER_S: Final = 1.0
_ANSWER_BYTES: Final = 256 * 1024


class Neighbour(NamedTuple):
    """One entry: its address, its hardware address ("" if unknown), and whether resolution has failed."""

    address: str
    hardware: str
    failed: bool = False

    @property
    def known(self) -> bool:
        return bool(self.hardware) and not self.failed


def _dump() -> Iterator[bytes]:
    """The messages of the kernel's answer, each with its header."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(_ANSWER_S)
        body = _NEIGHBOUR.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        sock.send(_HEADER.pack(_HEADER.size + len(body), _GET_NEIGHBOURS, _REQUEST_DUMP, 1, 0) + body)
        while True:
            answer = sock.recv(_ANSWER_BYTES)
            while len(answer) >= _HEADER.size:
                length, kind = _HEADER.unpack_from(answer)[:2]
                if kind == _DONE:
                    return
                if kind == _ERROR or length < _HEADER.size:
                    raise OSError("the kernel refuses the neighbour table")
                yield answer[:length]
                answer = answer[(length + 3) & ~3 :]


def neighbours(dump: Callable[[], Iterable[bytes]] = _dump, arp_file: Path = Path("/proc/net/arp")) -> list[Neighbour]:
    """The current table, including unresolved entries; [] if the system does not offer it.

    dump      yields the kernel's messages, or raises `OSError` if the request is forbidden
    arp_file  read in that case
    """
    if not hasattr(socket, "AF_NETLINK"):
        return []
    try:
        return list(_parse(dump()))
    except OSError:
        return _from_arp_file(arp_file)


def likely(table: list[Neighbour]) -> list[str]:
    """The addresses in `table` that a peer could have: resolved, not multicast, not link-local.

    Link-local IPv6 addresses are left out, because ``fe80::1%eth0`` means nothing to the other hosts that share the
    result.
    """
    return [each.address for each in table if each.known and _is_for_everybody(each.address)]


def _is_for_everybody(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return not (parsed.is_multicast or parsed.is_loopback or parsed.is_unspecified or parsed.is_link_local)


def _parse(messages: Iterable[bytes]) -> Iterator[Neighbour]:
    for message in messages:
        if _HEADER.unpack_from(message)[1] != _NEW_NEIGHBOUR:
            continue
        family, _interface, state, _flags, _type = _NEIGHBOUR.unpack_from(message, _HEADER.size)
        attributes = dict(_attributes(message[_HEADER.size + _NEIGHBOUR.size :]))
        if family in (socket.AF_INET, socket.AF_INET6) and _ADDRESS in attributes:
            hardware = attributes.get(_HARDWARE_ADDRESS, b"") if state & _KNOWN else b""
            address = socket.inet_ntop(family, attributes[_ADDRESS])
            yield Neighbour(address, hardware.hex(":") if hardware else "", bool(state & _FAILED))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]


def _from_arp_file(file: Path) -> list[Neighbour]:
    """IPv4 only.  The fields of a line: address, hardware type, flags, hardware address, mask, interface."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()[1:]
    except (OSError, ValueError):
        return []
    fields = [line.split() for line in lines]
    # Flag 2: the entry is complete.
    return [Neighbour(each[0], each[3] if int(each[2], 16) & 2 else "") for each in fields if len(each) >= 4]
