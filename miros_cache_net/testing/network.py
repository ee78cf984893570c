"""Hosts on a network, on one machine: network namespaces on a bridge."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from miros_cache_net.errors import CacheNetError

#: Names consist of the prefix, the id of the process that made them, "x", a running number and one of the letters;
#: an interface's name has at most 15 characters.
_PREFIX = "mcn"
_SWITCH = "s"
_TESTER = "t"
_numbers = itertools.count(1)


class NetworkUnavailable(CacheNetError):
    """This process is not allowed to make network namespaces."""


class NetworkHost:
    """One host: a network namespace with its own loopback, its own ports and one address on the bridge.

    name            of the namespace, as `ip netns` shows it
    address         its IPv4 address
    tester_address  the address under which this test's own process is on the same network
    """

    def __init__(self, name: str, port: str, switch: str, address: str, tester_address: str) -> None:
        self.name = name
        self.address = address
        self.tester_address = tester_address
        self._port = port
        self._switch = switch

    def run(
        self, command: Sequence[str], *, timeout_s: float = 30.0, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run `command` on this host to its end, with its output captured as text; CalledProcessError if it fails.

        `options` go to `subprocess.run` (``check=False``, ``input=...``, ``env=...``).
        """
        settings: dict[str, Any] = {"check": True, "capture_output": True, "text": True, **options}
        finished: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: PLW1510 - `check` is in the settings
            self.command(command), timeout=timeout_s, **settings
        )
        return finished

    def popen(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start `command` on this host; if it still runs when the network ends, it is killed."""
        return subprocess.Popen(self.command(command), **options)

    def command(self, command: Sequence[str]) -> list[str]:
        """The command that runs `command` on this host, by exec, so with the same process id."""
        return ["ip", "netns", "exec", self.name, *command]

    def unplug(self) -> None:
        """Unplug its cable: nothing arrives and nothing leaves; sockets stay open without traffic."""
        _ip("-n", self._switch, "link", "set", self._port, "down")

    def plug_in(self) -> None:
        """Plug its cable in again."""
        _ip("-n", self._switch, "link", "set", self._port, "up")

    def __repr__(self) -> str:
        return f"NetworkHost({self.name}, {self.address})"


class Network:
    """`count` hosts on one bridge, for as long as the ``with`` lasts.  NetworkUnavailable without root or `ip`.

    The bridge is in a namespace of its own, so that no firewall or bridge of this machine interferes.  The machine's
    own network gets only one more interface, which is removed afterwards.

    home  True: addresses 192.168.x.y, as in a home, for programs that accept no others; else 10.x.y.z

        with Network(2) as (alpha, beta):
            alpha.run(["ping", "-c", "1", beta.address])
    """

    def __init__(self, count: int, *, home: bool = False) -> None:
        if not 1 <= count <= 200:
            raise ValueError(f"a network has 1 to 200 hosts, not {count}")
        self._count = count
        self._home = home
        self._id = f"{_PREFIX}{os.getpid()}x{next(_numbers)}"
        self._switch = f"{self._id}{_SWITCH}"
        self._made: list[str] = []
        self._subnet = ""
        self.hosts: tuple[NetworkHost, ...] = ()

    def __enter__(self) -> tuple[NetworkHost, ...]:
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise NetworkUnavailable(
                "network namespaces need root and the program `ip`: run as root, after apt-get install iproute2"
            )
        remove_leftovers()
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self.hosts

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make(self) -> None:
        self._subnet = _free_subnet(home=self._home)
        self._add_namespace(self._switch)
        _ip("-n", self._switch, "link", "add", "name", "bridge0", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "bridge0", "up")
        tester = f"{self._subnet}.254"
        self._connect(None, f"{self._id}{_TESTER}", "uplink", tester)
        self.hosts = tuple(self._add_host(number, tester) for number in range(1, self._count + 1))

    def _add_host(self, number: int, tester: str) -> NetworkHost:
        name, port = f"{self._id}h{number}", f"port{number}"
        self._add_namespace(name)
        address = f"{self._subnet}.{number}"
        self._connect(name, "eth0", port, address)
        return NetworkHost(name, port, self._switch, address, tester)

    def _add_namespace(self, name: str) -> None:
        _ip("netns", "add", name)
        self._made.append(name)
        _ip("-n", name, "link", "set", "lo", "up")

    def _connect(self, namespace: str | None, interface: str, port: str, address: str) -> None:
        """Add a cable: one end, `interface`, has `address`; the other, `port`, is in the bridge."""
        place = ["-n", namespace] if namespace else []
        _ip(*place, "link", "add", "name", interface, "type", "veth", "peer", "name", port, "netns", self._switch)
        _ip("-n", self._switch, "link", "set", port, "master", "bridge0", "up")
        _ip(*place, "address", "add", f"{address}/24", "broadcast", f"{self._subnet}.255", "dev", interface)
        _ip(*place, "link", "set", interface, "up")

    def close(self) -> None:
        """Kill the processes that still run on the hosts, and remove the network.  Idempotent."""
        while self._made:
            _remove(self._made.pop())


def remove_leftovers() -> None:
    """Remove networks of test processes that were killed."""
    for name in _namespaces():
        owner = name.removeprefix(_PREFIX).partition("x")[0]
        if name.startswith(_PREFIX) and owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            _remove(name)


def _namespaces() -> list[str]:
    return [line.split()[0] for line in _ip("netns", "list").splitlines() if line.strip()]


def _remove(name: str) -> None:
    for pid in _ip("netns", "pids", name).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    if name.endswith(_SWITCH):
        # The kernel would remove it with its other end, but only some time after the namespace has been deleted.
        with contextlib.suppress(NetworkUnavailable):
            _ip("link", "delete", name.removesuffix(_SWITCH) + _TESTER)
    _ip("netns", "delete", name)


def _free_subnet(*, home: bool) -> str:
    """The first three numbers of a private /24 to which this machine has no route."""
    used = _ip("-4", "route", "show", "table", "all")
    while True:
        subnet = f"{'192.168' if home else f'10.{random.randint(64, 250)}'}.{random.randint(1, 250)}"
        if f"{subnet}." not in used:
            return subnet


def _ip(*arguments: str) -> str:
    finished = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise NetworkUnavailable(f"ip {' '.join(arguments)} failed: {finished.stderr.strip() or finished.returncode}")
    return finished.stdout
