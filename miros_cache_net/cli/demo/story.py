"""The demo's story, told by real processes: one host discovers, two reuse, and another takes over."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from miros_cache_net.cli.demo.eavesdropper import Eavesdropper
from miros_cache_net.cli.demo.host_process import DemoFailed, HostProcess, Line

Say = Callable[[str], None]


@dataclass
class Facts:
    """What was measured, in seconds from a node's start, and what was seen."""

    discovery_s: float = 0.0
    reuse_s: dict[str, float] = field(default_factory=dict)
    spread_s: dict[str, float] = field(default_factory=dict)
    restart_s: float = 0.0
    successor: str = ""
    peers: list[str] = field(default_factory=list)
    verdicts: dict[str, str] = field(default_factory=dict)
    messages: int = 0
    ciphertext: str = ""

    def as_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


class Story:
    """Plays in `directory` with the broker and key of `environment`; `close` stops every host."""

    def __init__(
        self, directory: Path, environment: dict[str, str], candidates: dict[str, str], tap: Eavesdropper, say: Say
    ) -> None:  # fmt: skip
        self._directory = directory
        self._environment = environment
        self._candidates = candidates
        self._tap = tap
        self._say = say
        self._hosts: dict[str, HostProcess] = {}
        self.facts = Facts()

    def play(self) -> Facts:
        """Play all acts.  Raises `DemoFailed`, which says which one went wrong."""
        self._alpha_discovers()
        self._others_reuse(["beta", "gamma"])
        self._listen_at_the_broker()
        self._a_change_spreads()
        self._a_restart_reads_the_file()
        self._another_takes_over()
        return self.facts

    def close(self) -> None:
        for host in self._hosts.values():
            host.stop()

    def _start(self, name: str) -> HostProcess:
        host = HostProcess(name, self._directory, self._environment, list(self._candidates))
        self._hosts[name] = host
        return host

    def _alpha_discovers(self) -> None:
        self._say("\nEvery host runs the same command:  miros-cache-net node --discover=ADDRESS,...")
        self._say("\n1. alpha starts. It has no cache and no other host to ask, so it discovers:")
        alpha = self._start("alpha")
        peers = alpha.wait_for("peers", timeout_s=30)
        for check in alpha.lines("scouted"):
            address = check["ip_address"]
            words = self._candidates.get(address, "")
            verdict = "yes" if check["result"] else f"no, {check['reason']}"
            self.facts.verdicts[address] = verdict
            self._say(f"     {address:<20} {verdict:<22} ({words})")
        self.facts.discovery_s = alpha.after_s(peers)
        self.facts.peers = peers["hosts"]
        self._say(f"   alpha found {len(peers['hosts'])} peers in {self.facts.discovery_s:.2f} s.")
        if not peers["hosts"]:
            raise DemoFailed("alpha found no peer; `miros-cache-net doctor` may say why")
        alpha.wait_for("cache", lambda line: not line["expired"])

    def _others_reuse(self, names: Sequence[str]) -> None:
        self._say(f"\n2. {' and '.join(names)} start, with empty directories:")
        for host in [self._start(name) for name in names]:
            peers = host.wait_for("peers")
            if host.lines("discovering") or host.lines("scouted"):
                raise DemoFailed(f"{host.name} discovered instead of reusing alpha's result")
            if sorted(peers["hosts"]) != sorted(self.facts.peers):
                raise DemoFailed(f"{host.name} got {peers['hosts']}, but alpha had found {self.facts.peers}")
            reuse_s = self.facts.reuse_s[host.name] = host.after_s(peers)
            self._say(
                f"   {host.name} had alpha's {len(peers['hosts'])} peers after {reuse_s:.3f} s, through RabbitMQ, "
                f"without discovering ({self.facts.discovery_s / reuse_s:.0f} times faster)."
            )

    def _listen_at_the_broker(self) -> None:
        heard = list(self._tap.heard)
        if not heard:
            raise DemoFailed("the queue bound to the exchange received nothing")
        readable = [peer for peer in self.facts.peers for message in heard if peer.encode() in message.body]
        if readable:
            raise DemoFailed("a peer's address could be read at the broker")
        sample = next((message for message in heard if message.routing_key.endswith(".CACHE")), heard[0])
        self.facts.messages, self.facts.ciphertext = len(heard), sample.body[:64].decode("ascii", "replace")
        self._say(f"\n3. A queue bound to the exchange saw {len(heard)} message(s) of all this, like this one:")
        self._say(f"     key  {sample.routing_key}\n     body {self.facts.ciphertext}...")
        self._say("   No peer's address is readable in any of them.")

    def _a_change_spreads(self) -> None:
        gamma = self._hosts["gamma"]
        self._say("\n4. On gamma, any program changes one key:  miros-cache-net update note='\"hello\"'")
        began_s = time.monotonic()
        self._update(gamma, 'note="hello"')
        for name in ("alpha", "beta"):
            host = self._hosts[name]
            line = host.wait_for("cache", lambda line: line["dict"].get("note") == "hello")
            self.facts.spread_s[name] = host.began_s + line["wall_s"] - began_s
            self._say(
                f"   {name} had it {self.facts.spread_s[name]:.2f} s after the command was typed (mostly the start of "
                "the command itself)."
            )

    def _a_restart_reads_the_file(self) -> None:
        self._say("\n5. beta's node stops and starts again:")
        self._hosts["beta"].stop()
        again = self._start("beta")
        peers: Line = again.wait_for("peers")
        if again.lines("discovering"):
            raise DemoFailed("beta discovered although its file was fresh")
        self.facts.restart_s = again.after_s(peers)
        self._say(f"   its file had its peers and gamma's change: known after {self.facts.restart_s:.3f} s.")

    def _another_takes_over(self) -> None:
        self._say("\n6. alpha is killed (kill -9); its result expires:  miros-cache-net update time_out_in_minutes=0")
        self._hosts["alpha"].kill()
        others = [self._hosts[name] for name in ("beta", "gamma")]
        self._update(others[1], "time_out_in_minutes=0")
        for host in others:
            line = host.wait_for("cache", lambda line: not line["expired"] and not line["origin"].startswith("alpha-"))
            self.facts.successor = line["origin"].rpartition("-")[0]
            if line["dict"].get("note") != "hello" or line["dict"].get("addresses") != self.facts.peers:
                raise DemoFailed(f"{host.name} has {line['dict']} from {self.facts.successor}")
        self._say(f"   {self.facts.successor} has discovered for the others, and gamma's key is still there.")

    def _update(self, host: HostProcess, change: str) -> None:
        command = [sys.executable, "-m", "miros_cache_net", "update", "--file", str(host.file), change]
        done = subprocess.run(
            command, check=False, cwd=host.file.parent, env=self._environment, capture_output=True, text=True
        )
        if done.returncode:
            raise DemoFailed(f"the update failed: {done.stderr.strip()}")
