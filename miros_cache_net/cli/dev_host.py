"""The hosts of `miros-cache-net dev`: processes of `node`, each with a directory and settings of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from miros_cache_net.cli.health import judged
from miros_cache_net.errors import CacheNetError
from miros_cache_net.settings import Settings
from miros_cache_net.settings.environment import CONFIG_NAME, ENV_FILE_NAME
from miros_cache_net.testing.rabbit import GUARD, RabbitServer
from miros_cache_net.wire.keyring import generate_key

#: A host is in step some tenths of a second after its start; a busy machine may need much longer.
_IN_STEP_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.1
_END_S: Final = 10.0


class HostFailed(CacheNetError):
    """A host has ended early, or is not in step in time."""


def setting_names() -> Iterator[str]:
    """The names of variables that stand above a host's own settings."""
    yield from (name for setting in Settings.describe() for name in setting.env_names)
    yield from (CONFIG_NAME, ENV_FILE_NAME)


def overriding() -> list[str]:
    """Which of this process's variables would stand above a host's settings in a terminal like this one."""
    return sorted(set(os.environ) & set(setting_names()))


def new_fleet(directory: Path) -> dict[str, str]:
    """Make the fleet's key in `directory`; returns the environment of its hosts, free of the user's own settings."""
    keys = directory / "keys"
    keys.touch(mode=0o600)
    keys.write_bytes(generate_key() + b"\n")
    users_own = set(setting_names())
    return {name: value for name, value in os.environ.items() if name not in users_own}


@contextlib.contextmanager
def guarding(directory: Path, pids: Sequence[int]) -> Iterator[None]:
    """However this process ends: these processes, each leader of its group, end too, and `directory` goes."""
    command = ["/bin/sh", "-c", GUARD, "guard", str(directory), *map(str, pids)]
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    assert guard.stdin is not None
    try:
        yield
    finally:
        guard.kill()
        guard.wait()
        guard.stdin.close()


class DevHost:
    """Starts `node --discover` as host `name` in its own directory below `directory`; `stop` ends it and waits.

    Tells each line that it prints, on a thread that ends with it.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        server: RabbitServer,
        environment: Mapping[str, str],
        tell: Callable[[str], None],
    ) -> None:
        self.name = name
        self.config = directory / f"{name}.toml"
        self.file = directory / name / "cache.json"
        self.file.parent.mkdir()
        self._tell = tell
        self._write_config({"amqp_urls": server.url, "keys_file": str(directory / "keys"), "file": str(self.file)})
        self._process = subprocess.Popen(
            [sys.executable, "-m", "miros_cache_net", "node", f"--discover={server.address}:{server.port}"],
            # away from the user's directory, whose .env is not the host's
            cwd=self.file.parent,
            env={**environment, CONFIG_NAME: str(self.config)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # Ctrl-C must reach only the command itself, which stops the hosts cleanly
            start_new_session=True,
        )
        threading.Thread(target=self._listen, name=f"tells of {name}", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def facts(self) -> dict[str, Any]:
        """What ``--json`` says of it."""
        return {"name": self.name, "file": str(self.file), "config": str(self.config), "pid": self.pid}

    def wait_in_step(self) -> None:
        """Return once `health` says yes; raises `HostFailed` where it has ended, or does not get there in 60 s."""
        deadline_s = time.monotonic() + _IN_STEP_S
        while not (found := judged(self.file, 0.0))["healthy"]:
            if self._process.poll() is not None:
                raise HostFailed(f"{self.name} ended with code {self._process.returncode}; its last lines are above")
            if time.monotonic() > deadline_s:
                raise HostFailed(f"{self.name} is not in step after {_IN_STEP_S:g} s: {found['why']}")
            time.sleep(_LOOK_EVERY_S)

    def tell_to_end(self) -> None:
        """SIGTERM, without waiting."""
        self._process.terminate()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL if that does not end it in 10 s.  Idempotent."""
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _write_config(self, settings: Mapping[str, str]) -> None:
        # a JSON string is a TOML string too
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in {**settings, "node_name": self.name}.items()]
        self.config.touch(mode=0o600)
        self.config.write_text("".join(lines))

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                self._tell(f"{self.name} | {line}")
        code = self._process.wait()
        if code:
            self._tell(f"{self.name} | ended with code {code}")
