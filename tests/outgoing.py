"""What leaves a host: every frame out of its ``eth0`` while a ``with`` lasts, told as destinations.

``python -m tests.outgoing`` is the part that runs in the host's namespace.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import subprocess
import sys
import threading

from miros_cache_net.testing import NetworkHost
from tests.cli_command import SOURCES

_ALL, _ARP, _IPV4, _IPV6 = 0x0003, 0x0806, 0x0800, 0x86DD
_REQUEST = b"\0\1"
_OUTGOING = 4


def destination(frame: bytes) -> str | None:
    """Whom an ARP request asks for or a packet is for; None for what the kernel says by itself.

    That is: answers to others' ARP requests, and IPv6 groups.
    """
    kind = int.from_bytes(frame[12:14], "big")
    if kind == _ARP:
        return socket.inet_ntoa(frame[38:42]) if frame[20:22] == _REQUEST else None
    if kind == _IPV4:
        return socket.inet_ntoa(frame[30:34])
    address = ipaddress.IPv6Address(frame[38:54]) if kind == _IPV6 else None
    return None if address is None or address.is_multicast else str(address)


def main() -> None:
    frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
    frames.bind(("eth0", _ALL))
    seen: set[str] = set()

    def watch() -> None:
        while True:
            frame, (_interface, _protocol, kind, *_rest) = frames.recvfrom(2048)
            if kind == _OUTGOING and (to := destination(frame)):
                seen.add(to)

    threading.Thread(target=watch, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()
    print(json.dumps(sorted(seen)))


class Outgoing:
    """`destinations`, once the ``with`` is over: the addresses to which anything went out of `host`."""

    def __init__(self, host: NetworkHost) -> None:
        self._process = host.popen(
            [sys.executable, "-m", "tests.outgoing"],
            cwd=SOURCES,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        self.destinations: list[str] = []

    def __enter__(self) -> Outgoing:
        return self

    def __exit__(self, *_: object) -> None:
        self.destinations = json.loads(self._process.communicate(timeout=20)[0])


if __name__ == "__main__":
    main()
