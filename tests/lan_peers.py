"""The machines of a LAN, played by one process in a network namespace: ``python -m tests.lan_peers``.

Standard input holds one JSON object: lists of addresses under "open" (a RabbitMQ as far as a scout can tell), "late"
(the same, but it misses the first SYN) and "silent" (there, but it drops every SYN); "port".  Addresses without a
listener refuse by themselves.  Says ``ready`` and runs until its input ends.
"""

from __future__ import annotations

import ctypes
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from miros_cache_net.testing import NetworkHost
from tests.cli_command import SOURCES
from tests.fake_servers import FakeServer, generous_rabbit

_ATTACH_FILTER, _DETACH_FILTER = 26, 27
_TCP, _SYN, _ACK = 6, 0x02, 0x10
#: Far more than the kernel needs to drop the SYN that was seen, far less than the sweep's first attempt lasts.
_AFTER_FIRST_SYN_S = 0.02


def drop_everything(listener: socket.socket) -> None:
    """A classic BPF program of one instruction: take none of it."""
    program = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))
    listener.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))


def drop_first_syn(listeners: dict[str, socket.socket]) -> None:
    """Have each listener, by its address, miss the first SYN."""
    for listener in listeners.values():
        drop_everything(listener)
    frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    waiting = dict(listeners)

    def watch() -> None:
        while waiting:
            frame = frames.recv(2048)
            header = 14 + (frame[14] & 0x0F) * 4
            is_syn = frame[23] == _TCP and frame[header + 13] & (_SYN | _ACK) == _SYN
            listener = waiting.pop(socket.inet_ntoa(frame[30:34]), None) if is_syn else None
            if listener is not None:
                time.sleep(_AFTER_FIRST_SYN_S)
                listener.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    plan: dict[str, Any] = json.loads(sys.stdin.readline())
    port = plan["port"]
    with ExitStack() as stack:
        listeners = {}
        for address in [*plan["open"], *plan["late"], *plan["silent"]]:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            server = stack.enter_context(FakeServer(generous_rabbit, address, port, family=family))
            listeners[address] = server.listener
        drop_first_syn({address: listeners[address] for address in plan["late"]})
        for address in plan["silent"]:
            drop_everything(listeners[address])
        print("ready", flush=True)
        sys.stdin.read()


class LanPeers:
    """The process above on `host`, whose interface gets all the addresses; for as long as the ``with`` lasts."""

    def __init__(
        self,
        host: NetworkHost,
        *,
        open: Iterable[str] = (),
        late: Iterable[str] = (),
        silent: Iterable[str] = (),
        refusing: Iterable[str] = (),
        port: int = 5672,
        prefix: int = 24,
    ) -> None:
        plan = {"open": [*open], "late": [*late], "silent": [*silent]}
        commands = [
            f"address add {address}/{64 if ':' in address else prefix} dev eth0{' nodad' if ':' in address else ''}"
            for address in [*plan["open"], *plan["late"], *plan["silent"], *refusing]
            if address != host.address
        ]
        host.run(["ip", "-force", "-batch", "-"], input="\n".join(commands) + "\n", check=False)
        self.process = host.popen(
            [sys.executable, "-m", "tests.lan_peers"],
            cwd=SOURCES,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({**plan, "port": port}) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ready\n"

    def __enter__(self) -> LanPeers:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate(timeout=20)


if __name__ == "__main__":
    main()
