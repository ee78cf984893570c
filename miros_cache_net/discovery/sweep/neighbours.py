"""The neighbour table: the machines on this machine's own links that it has spoken with, IPv4 and IPv6.

Linux: one read-only netlink request, and ``/proc/net/arp`` where a sandbox forbids it.  Elsewhere (macOS) the
table can only be had by running a program or from undocumented structures, so there it reads as empty: a sweep
then knows no likely addresses in advance, and IPv6 neighbours are not found.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

_ARP_FILE: Final = Path("/proc/net/arp")
_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, sender
_NEIGHBOUR: Final = struct.Struct("=BxxxiHBB")  # ndmsg: family, interface, state, flags, type
_ATTRIBUTE: Final = struct.Struct("=HH")  # nlattr: length, type
_GET_NEIGHBOURS, _NEW_NEIGHBOUR, _ERROR, _DONE = 30, 28, 2, 3
_REQUEST_DUMP: Final = 0x301
_ADDRESS, _HARDWARE_ADDRESS = 1, 2
_FAILED: Final = 0x20
#: Reachable, stale, delayed, probed, permanent: the kernel has a hardware address for it.
_KNOWN: Final = 0x02 | 0x04 | 0x08 | 0x10 | 0x80
_ANSWER_S: Final = 1.0
_ANSWER_BYTES: Final = 256 * 1024


class Neighbour(NamedTuple):
    """One entry: its address, its hardware address ("" where unknown), and whether the kernel has given it up."""

    address: str
    hardware: str
    failed: bool = False

    @property
    def known(self) -> bool:
        return bool(self.hardware) and not self.failed


def neighbours() -> list[Neighbour]:
    """The table as it is now, entries that are not resolved (yet) included; [] where the system does not say."""
    if not hasattr(socket, "AF_NETLINK"):
        return []
    try:
        return list(_parse(_dump()))
    except OSError:
        return _from_arp_file()


def likely(table: list[Neighbour]) -> list[str]:
    """The addresses of `table` that a peer could have: resolved, no group, not valid on one link only.

    Link-local IPv6 addresses are left out: ``fe80::1%eth0`` means nothing to the other hosts that the result is
    shared with.
    """
    return [each.address for each in table if each.known and _is_for_everybody(each.address)]


def _is_for_everybody(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return not (parsed.is_multicast or parsed.is_loopback or parsed.is_unspecified or parsed.is_link_local)


def _dump() -> Iterator[bytes]:
    """The kernel's answer, message by message, each with its header."""
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


def _parse(messages: Iterator[bytes]) -> Iterator[Neighbour]:
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


def _from_arp_file(file: Path = _ARP_FILE) -> list[Neighbour]:
    """IPv4 only.  A line is: address, hardware type, flags, hardware address, mask, interface."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()[1:]
    except (OSError, ValueError):
        return []
    fields = [line.split() for line in lines]
    # flag 2: the entry is complete
    return [Neighbour(each[0], each[3] if int(each[2], 16) & 2 else "") for each in fields if len(each) >= 4]
