"""The interface of every host in a test's fleet, whatever its kind."""

from __future__ import annotations

import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from miros_cache_net.cache import Cache
from miros_cache_net.clock import SYSTEM_CLOCK, Clock
from miros_cache_net.errors import CacheNetError
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.settings import Settings
from miros_cache_net.testing.cable import Cable
from miros_cache_net.testing.skewed_clock import SkewedClock
from miros_cache_net.testing.small_disk import SmallDisk
from miros_cache_net.testing.waiting import wait_until

if TYPE_CHECKING:
    from miros_cache_net.node import CacheNode
    from miros_cache_net.testing.node_process import NodeProcess


class NotThisKind(CacheNetError):
    """This kind of host cannot do what the test asks; the message names a kind that can."""


class NotRunning(CacheNetError):
    """The host's node does not run, so it cannot do what the test asks."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the node of {name} does not run: start() it first")


class Host(ABC):
    """A directory with a cache file, a `CacheNode` that keeps it in step with the fleet, and a clock of its own.

    Reads and writes go through the file, like those of any program on that host.

    name      of the host, as `status` shows it
    kind      "thread", "process" or "namespace"
    settings  the settings for programs on this host; ``CacheNode(settings=host.settings)`` follows the host's node
    cache     the host's file, for operations beyond `read`, `write`, `update` and `delete`
    """

    kind: ClassVar[str]

    def __init__(self, values: Mapping[str, Any], cable: Cable, clock: Clock = SYSTEM_CLOCK) -> None:
        self._values = {**cable.settings, **values}
        self._cable = cable
        self._disk: SmallDisk | None = None
        self._is_cut = False
        self.settings = Settings(**self._values)
        self.name = self.settings.node_name
        self.clock = SkewedClock(clock)
        self.cache = Cache(self.settings.file, clock=self.clock)

    # --- its document -----------------------------------------------------------------------------------

    def read(self) -> dict[str, Any]:
        """The document's current contents on this host."""
        return dict(self.cache.read().dict)

    def write(self, contents: Mapping[str, Any]) -> CacheReadPayload:
        """Replace the whole document."""
        return self.cache.write(contents)

    def update(self, changes: Mapping[str, Any], delete: Sequence[str] = ()) -> CacheReadPayload:
        """Set and delete single keys."""
        return self.cache.update(changes, delete)

    def delete(self, *keys: str) -> CacheReadPayload:
        """Delete these keys."""
        return self.cache.update({}, keys)

    # --- its node ---------------------------------------------------------------------------------------

    @property
    def node(self) -> CacheNode:
        """Its node, whose events reach every chart of this process.  `NotThisKind` if it runs in another process."""
        raise NotThisKind(f"the node of {self.name} is in a process of its own: ask status(), or make it kind='thread'")

    @property
    def processes(self) -> list[NodeProcess]:
        """Its running processes, with one node each; a thread has none."""
        return []

    def spawn(self) -> NodeProcess:
        """Start one more process with a node on this host; it ends with the host.  `NotThisKind` for a thread."""
        raise NotThisKind(f"{self.name} has no process of its own: make it kind='process'")

    @property
    @abstractmethod
    def running(self) -> bool:
        """Its node was started, and has been neither stopped nor killed since."""

    @abstractmethod
    def start(self) -> None:
        """Start its node if it does not run.  It is in step some time later: `wait_joined`."""

    @abstractmethod
    def stop(self) -> None:
        """Stop its node in an orderly way; the file stays.  Idempotent."""

    def kill(self) -> None:
        """End its node as ``kill -9`` does.  `NotThisKind` for a thread."""
        raise NotThisKind(f"{self.name} is a thread of this process and dies with it: make it kind='process'")

    @abstractmethod
    def status(self) -> dict[str, Any]:
        """`CacheNode.status` of its node, which must run."""

    @property
    def connected(self) -> bool:
        """Its node runs and is in step with the fleet."""
        return self.running and bool(self.status()["connected"])

    def wait_joined(self, timeout_s: float = 60.0) -> None:
        """Return once it is in step with the fleet; AssertionError after `timeout_s`."""
        try:
            wait_until(lambda: self.connected, timeout_s=timeout_s, what=f"{self.name} to be in step with the fleet")
        except AssertionError as error:
            stands = f"; it says of itself: {self.status()}" if self.running else ""
            raise AssertionError(f"{error}{stands}") from None

    # --- faults -----------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Cut its connection to the broker, until `heal`."""
        self._cable.cut()
        self._is_cut = True

    def heal(self) -> None:
        """Restore the connection to the broker; the host joins the fleet again some time later."""
        self._cable.heal()
        self._is_cut = False

    def skew(self, seconds: float) -> None:
        """Set its wall clock wrong: `seconds` ahead, negative behind, 0 right again."""
        self.clock.skew_s = seconds

    def fill_disk(self) -> None:
        """Leave no free byte on its file's disk, until `free_disk`.

        The first time, the host moves to a small disk of its own, for which its node is stopped and started again.
        `DiskUnavailable` if this process is not allowed to mount one.
        """
        if self._disk is None:
            was_running = self.running
            self.stop()
            self.cache.close()
            self._disk = SmallDisk(self.directory)
            if was_running:
                self.start()
        self._disk.fill()

    def free_disk(self) -> None:
        """Make space on its disk again."""
        if self._disk is not None:
            self._disk.free()

    # --- programs on it ---------------------------------------------------------------------------------

    @property
    def directory(self) -> Path:
        """The directory of its file."""
        return self.settings.file.parent

    def environment(self) -> dict[str, str]:
        """The environment for a program of yours on this host: this process's own, and the host's settings."""
        variables = {setting.field: setting.env_names for setting in Settings.describe() if setting.env_names}
        known = {variable for names in variables.values() for variable in names}
        kept = {name: value for name, value in os.environ.items() if name not in known}
        own = {variables[field][0]: str(value) for field, value in self._values.items()}
        return {**kept, **own, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def popen(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program on this host, in its directory and with its `environment`; the caller has to end it.

        `options` go to `subprocess.Popen`.
        """
        given = {"cwd": self.directory, "env": self.environment(), **options}
        return subprocess.Popen(self.command(command), **given)

    def command(self, command: Sequence[str]) -> list[str]:
        """The command that this process has to execute so that `command` runs on this host."""
        return [*command]

    # --- its end ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop its node and release everything but the file.  Idempotent."""
        try:
            self.stop()
        finally:
            self.cache.close()
            if self._disk is not None:
                self._disk.close()
                self._disk = None

    def described(self) -> str:
        """One line about its contents and its state."""
        stands = "stopped" if not self.running else "cut off" if self._is_cut else "running"
        try:
            payload = self.cache.read()
        except CacheNetError as error:
            return f"{self.name} ({stands}) holds no document: {error}"
        contents = repr(dict(payload.dict))
        shown = contents if len(contents) <= 200 else f"{contents[:200]}... ({len(payload.dict)} keys)"
        return f"{self.name} ({stands}) holds {shown}, version {payload.version[:8]}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.described()}>"
