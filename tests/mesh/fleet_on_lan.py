"""A fleet of `miros-cache-net node` processes on the hosts of a `MeshLan`, which takes part in the old mesh."""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

from miros_cache_net.document.layout import META_KEY
from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.testing import wait_until
from tests.mesh.old_package import AMPLE_S, MeshHost, Program

FILE = "fleet.json"
NAMES = ("alpha", "beta", "gamma")


class FleetOnLan:
    """A node on each of `hosts`; all of them use the broker of the first."""

    def __init__(self, hosts: tuple[MeshHost, ...], **environment: str) -> None:
        self.hosts = hosts
        self.environment = {
            "MIROS_CACHE_MESH": "on",
            "MIROS_CACHE_MESH_TX_ROUTING_KEY": "mesh",
            "MIROS_CACHE_AMQP_URL": f"amqp://{hosts[0].address}",
            "MIROS_CACHE_KEYS": generate_key().decode(),
            "MIROS_CACHE_FILE": FILE,
            "MIROS_CACHE_DIGEST_INTERVAL_S": "5",
            "MIROS_CACHE_HEARTBEAT_S": "2",
            **environment,
        }
        self.nodes: dict[str, Program] = {}
        for name in NAMES[: len(hosts)]:
            self.start(name)

    def host(self, name: str) -> MeshHost:
        return self.hosts[NAMES.index(name)]

    def start(self, name: str) -> None:
        given = {**self.environment, "MIROS_CACHE_NODE_NAME": name}
        self.nodes[name] = self.host(name).start(sys.executable, "-m", "miros_cache_net", "node", **given)

    def command(self, name: str, *arguments: str) -> str:
        """What a command on that host prints; AssertionError if it fails."""
        given = {**self.environment, "MIROS_CACHE_NODE_NAME": name}
        done = self.host(name).command(*arguments, **given)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def contents(self, name: str) -> dict[str, Any]:
        """What the file on that host holds now."""
        document = json.loads((self.host(name).directory / FILE).read_text())
        document.pop(META_KEY, None)
        return dict(document)

    def holds(self, contents: dict[str, Any], *names: str) -> None:
        """Wait until the files of these hosts, of all if none is named, hold this."""
        for name in names or tuple(self.nodes):
            wait_until(lambda name=name: self.contents(name) == contents, AMPLE_S, f"{contents} on {name}")

    def counters(self) -> dict[str, dict[str, int]]:
        """Each host's counters."""
        found = json.loads(self.command(next(iter(self.nodes)), "status", "--json"))
        nodes = found["nodes"] if isinstance(found, dict) else found
        return {str(each["node"]).partition("-")[0]: each["counters"] for each in nodes}

    def speaker(self) -> str:
        """The host that speaks, once it is the only one."""

        def speaking() -> list[str]:
            return [name for name, counters in self.counters().items() if counters.get("mesh_speaks")]

        wait_until(lambda: len(speaking()) == 1, AMPLE_S, "one host to speak")
        return speaking()[0]

    def end(self, name: str, by: signal.Signals) -> None:
        """End the node of that host."""
        self.nodes.pop(name).process.send_signal(by)
