"""The demo's story, told by what really happens: one host discovers, two reuse, a change spreads, a restart reads."""

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
    """What was measured, in seconds from the moment a program's charts were built, and what was seen."""

    discovery_s: float = 0.0
    reuse_s: dict[str, float] = field(default_factory=dict)
    spread_s: dict[str, float] = field(default_factory=dict)
    restart_s: float = 0.0
    peers: list[str] = field(default_factory=list)
    verdicts: dict[str, str] = field(default_factory=dict)
    messages: int = 0
    ciphertext: str = ""

    def as_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


class Story:
    """Plays on `directory` with the broker and key in `environment`; `close` ends every host."""

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
        """All acts; `DemoFailed` says which one went wrong."""
        self._alpha_discovers()
        self._others_reuse(["beta", "gamma"])
        self._listen_at_the_broker()
        self._a_change_spreads()
        self._a_restart_reads_the_file()
        return self.facts

    def close(self) -> None:
        for host in self._hosts.values():
            host.stop()

    def _start(self, name: str) -> HostProcess:
        host = HostProcess(name, self._directory, self._environment, list(self._candidates))
        self._hosts[name] = host
        return host

    def _alpha_discovers(self) -> None:
        self._say("\n1. alpha starts. It has no cache, and there is nobody to ask, so it discovers:")
        alpha = self._start("alpha")
        peers = alpha.wait_for("peers", timeout_s=30)
        for check in alpha.lines("scouted"):
            address = f"{check['address'].rsplit(':', 1)[0]}:{check['port']}"
            words = self._candidates.get(address, "")
            verdict = "yes" if check["result"] else f"no, {check['reason']}"
            self.facts.verdicts[address] = verdict
            self._say(f"     {address:<20} {verdict:<22} ({words})")
        self.facts.discovery_s = peers["after_s"]
        self.facts.peers = peers["hosts"]
        self._say(f"   alpha found {len(peers['hosts'])} peers in {peers['after_s']:.2f} s.")
        if not peers["hosts"]:
            raise DemoFailed("alpha found no peer; `miros-cache-net doctor` tells more")
        alpha.wait_for("cache", lambda line: not line["expired"])

    def _others_reuse(self, names: Sequence[str]) -> None:
        self._say(f"\n2. {' and '.join(names)} start, with empty directories:")
        for host in [self._start(name) for name in names]:
            peers = host.wait_for("peers")
            if host.lines("discovering") or host.lines("scouted"):
                raise DemoFailed(f"{host.name} discovered instead of reusing alpha's result")
            if sorted(peers["hosts"]) != sorted(self.facts.peers):
                raise DemoFailed(f"{host.name} got {peers['hosts']}, alpha had found {self.facts.peers}")
            self.facts.reuse_s[host.name] = peers["after_s"]
            self._say(
                f"   {host.name} had alpha's {len(peers['hosts'])} peers after {peers['after_s']:.3f} s, by RabbitMQ, "
                f"without discovering ({self.facts.discovery_s / peers['after_s']:.0f} times faster)."
            )

    def _listen_at_the_broker(self) -> None:
        heard = list(self._tap.heard)
        if not heard:
            raise DemoFailed("the queue bound to the exchange got nothing")
        readable = [peer for peer in self.facts.peers for message in heard if peer.encode() in message.body]
        if readable:
            raise DemoFailed("a peer's address could be read at the broker")
        sample = next((message for message in heard if message.routing_key.endswith(".CACHE")), heard[0])
        self.facts.messages, self.facts.ciphertext = len(heard), sample.body[:64].decode("ascii", "replace")
        self._say(f"\n3. What a queue bound to the exchange saw of that: {len(heard)} message(s), like this one:")
        self._say(f"     key  {sample.routing_key}\n     body {self.facts.ciphertext}...")
        self._say("   No peer's address is readable in any of them.")

    def _a_change_spreads(self) -> None:
        gamma = self._hosts["gamma"]
        self._say("\n4. On gamma, any program changes one key:  miros-cache-net update note='\"hello\"'")
        command = [sys.executable, "-m", "miros_cache_net", "update", "--file", str(gamma.file), 'note="hello"']
        began_s = time.monotonic()
        done = subprocess.run(
            command, check=False, cwd=gamma.file.parent, env=self._environment, capture_output=True, text=True
        )
        if done.returncode:
            raise DemoFailed(f"the update failed: {done.stderr.strip()}")
        for name in ("alpha", "beta"):
            host = self._hosts[name]
            line = host.wait_for("cache", lambda line: line["contents"].get("note") == "hello")
            self.facts.spread_s[name] = host.began_s + line["wall_s"] - began_s
            self._say(
                f"   {name} was told {self.facts.spread_s[name]:.2f} s after the command was typed (most of that is "
                "the command's own start)."
            )

    def _a_restart_reads_the_file(self) -> None:
        self._say("\n5. beta's program ends and starts again:")
        self._hosts["beta"].stop()
        again = self._start("beta")
        peers: Line = again.wait_for("peers")
        if again.lines("discovering"):
            raise DemoFailed("beta discovered although its file was young")
        self.facts.restart_s = peers["after_s"]
        self._say(f"   its peers, and gamma's change, were in its file: known after {peers['after_s']:.3f} s.")
