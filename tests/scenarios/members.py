"""The hosts of a scenario, of three kinds, and what befalls each of them alone."""

from __future__ import annotations

import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from miros_cache_net.cache import Cache
from miros_cache_net.cli.health import judged
from miros_cache_net.settings.key_file import key_id
from miros_cache_net.testing import Host, NodeProcess, TcpForwarder, wait_until
from miros_cache_net.testing.host_kinds import NamespaceHost
from tests.scenarios.releases import before_ours


class Member(ABC):
    """A host that keeps one document with others.

    path  of its cache file, as this process sees it; what is written and read goes through it
    keys  its key file
    """

    def __init__(self, name: str, path: Path, keys: Path, cache: Cache) -> None:
        self.name, self.path, self.keys, self.cache = name, path, keys, cache

    # --- its document -----------------------------------------------------------------------------------

    def update(self, changes: Mapping[str, Any], delete: Sequence[str] = ()) -> None:
        self.cache.update(changes, delete)

    def write(self, contents: Mapping[str, Any]) -> None:
        self.cache.write(contents)

    def health(self) -> dict[str, Any]:
        """What `miros-cache-net health --json` prints there."""
        return judged(self.path, 0.0)

    # --- what befalls it --------------------------------------------------------------------------------

    @abstractmethod
    def await_keys(self, *keys: str) -> None:
        """Wait until each of its processes has read these keys."""

    def set_keys(self, *keys: str) -> None:
        """Put these keys into its key file, as an administrator's tool does."""
        status, new = self.keys.stat(), self.keys.with_name("keys.new")
        new.touch(0o600)
        new.write_text("".join(f"{key}\n" for key in keys))
        os.chown(new, status.st_uid, status.st_gid)
        new.replace(self.keys)

    @abstractmethod
    def kill(self) -> None: ...

    @abstractmethod
    def stop(self) -> None: ...

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def pause(self) -> None: ...

    @abstractmethod
    def resume(self) -> None: ...

    @abstractmethod
    def cut(self) -> None:
        """Take the network from it; what it has open learns of that, where this kind of host can have it so."""

    @abstractmethod
    def mend(self) -> None:
        """Have the network as it was."""


class FullDisk:
    """Kept full until `free`: what is deleted while it is still open gives its room back only later."""

    def __init__(self, fill: Callable[[], None], free: Callable[[], None]) -> None:
        self._fill, self._free = fill, free
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="full disk")
        self._fill()
        self._thread.start()

    def free(self) -> None:
        self._ended.set()
        self._thread.join()
        self._free()

    def _run(self) -> None:
        while not self._ended.wait(0.2):
            self._fill()


class ProcessMember(Member):
    """Two processes with a node each, a bridge and a follower, and a forwarder between them and the broker."""

    def __init__(self, host: Host, keys: Path, way: TcpForwarder | None) -> None:
        super().__init__(host.name, host.settings.file, keys, host.cache)
        self.host, self.way = host, way
        self._paused: list[NodeProcess] = []
        self._guard = threading.Lock()

    def of_role(self, role: str) -> NodeProcess:
        """The process that is the bridge, or the follower, as soon as there is one."""

        def look() -> NodeProcess | None:
            return next((process for process in self.host.processes if process.status()["role"] == role), None)

        found = wait_until(look, timeout_s=30, what=f"a {role} on {self.name}")
        assert found is not None
        return found

    def await_keys(self, *keys: str) -> None:
        ring = [key_id(key) for key in keys]
        wait_until(
            lambda: all(process.status()["keys"] == ring for process in self.host.processes),
            timeout_s=30,
            what=f"{self.name} to read its keys",
        )

    def kill_one(self, role: str) -> None:
        """And have another one started in its place."""
        self.of_role(role).kill()
        self.host.spawn()

    def kill(self) -> None:
        self.host.kill()

    def stop(self) -> None:
        self.host.stop()

    def start(self) -> None:
        self.host.start()
        self.host.spawn()

    def pause(self) -> None:
        self._paused = self.host.processes
        for process in self._paused:
            process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        paused, self._paused = self._paused, []
        for process in paused:
            process.signal(signal.SIGCONT)

    def skew(self, seconds: float) -> None:
        self.host.skew(seconds)

    def have_small_disk(self) -> None:
        """A disk that can be filled; the first time it moves there, with one process."""
        self.host.fill_disk()
        self.host.free_disk()
        if len(self.host.processes) < _PROCESSES:
            self.host.spawn()
            wait_until(lambda: self.health()["healthy"], timeout_s=60, what=f"{self.name} to be there again")

    def fill_disk(self) -> None:
        self._full = FullDisk(self.host.fill_disk, self.host.free_disk)

    def free_disk(self) -> None:
        self._full.free()
        # what its processes have said in a long soak would fill it again
        os.truncate(self.host.directory / "log", 0)

    def install(self, place: Path | None) -> None:
        """Have the processes that it starts from now on run what is installed there; None: these sources."""
        if place is None:
            del self.host.environment  # type: ignore[method-assign]
        else:
            environment = {**self.host.environment(), "PYTHONPATH": before_ours(place)}
            self.host.environment = lambda: environment  # type: ignore[method-assign]

    def speak_another_format(self) -> None:
        """Have its node replaced by one of another release, of which this one understands nothing."""
        self.host.stop()
        settings = self.host._values
        self._other = NodeProcess(
            settings,
            self.host.directory,
            environment=self.host.environment(),
            command=self.host.command,
            program=("-m", "tests.scenarios.another_format"),
        )
        self._other.wait_for_start()

    def speak_ours_again(self) -> None:
        self._other.stop()
        self.start()

    # --- its network ------------------------------------------------------------------------------------

    @property
    def _way(self) -> TcpForwarder:
        assert self.way is not None
        return self.way

    def cut(self) -> None:
        self._way.refuse()

    def cut_silently(self) -> None:
        self._way.freeze()

    def deafen(self) -> None:
        """What it sends arrives, what it is sent does not."""
        self._way.freeze_answers()

    def slow_down(self) -> None:
        self._way.slow_down(0.3)

    def mend(self) -> None:
        self._way.slow_down(0.0)
        self._way.accept()
        self._way.thaw()


class OwnNetwork(ABC):
    """A network of one's own: nobody need be told of anything, packets are lost.

    port  where the broker listens
    """

    port = 5672

    @abstractmethod
    def run_there(self, *command: str) -> None:
        """Run it in that network, as root."""

    def cut(self) -> None:
        """Its packets are answered with a reset, as by a firewall that says so."""
        self._rule("output", f"tcp dport {self.port} reject with tcp reset")
        self._rule("input", f"tcp sport {self.port} reject with tcp reset")

    def cut_silently(self) -> None:
        self._rule("input", "drop")
        self._rule("output", "drop")

    def deafen(self) -> None:
        self._rule("input", f"tcp sport {self.port} drop")

    def lose_packets(self) -> None:
        """One of five, each way."""
        self._rule("input", f"tcp sport {self.port} numgen random mod 5 0 drop")
        self._rule("output", f"tcp dport {self.port} numgen random mod 5 0 drop")

    def slow_down(self) -> None:
        self.run_there("tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", *_SLOW)

    def mend(self) -> None:
        self.run_there("sh", "-c", "nft delete table inet fault; tc qdisc del dev eth0 root; true")

    def _rule(self, hook: str, rule: str) -> None:
        chain = f"{{ type filter hook {hook} priority 0; }}"
        for command in (["table", "inet", "fault"], ["chain", "inet", "fault", hook, chain]):
            self.run_there("nft", "add", *command)
        self.run_there("nft", "add", "rule", "inet", "fault", hook, *rule.split())


class NamespaceMember(OwnNetwork, ProcessMember):
    """Processes with a network of their own."""

    def __init__(self, host: NamespaceHost, keys: Path) -> None:
        super().__init__(host, keys, None)
        self._network = host.network_host
        self.port = host.settings.amqp_urls[0].port

    def run_there(self, *command: str) -> None:
        self._network.run(command)


#: A bridge and a follower.
_PROCESSES = 2
#: A modem.
_SLOW = ("rate", "64kbit", "burst", "4kb", "latency", "400ms")
