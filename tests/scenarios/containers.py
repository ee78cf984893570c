"""The hosts and the broker of docker-compose.yml, their files and keys in directories of this machine."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from miros_cache_net.cache import Cache
from miros_cache_net.settings.key_file import key_id
from miros_cache_net.testing import wait_until
from miros_cache_net.testing.small_disk import SmallDisk
from tests.cluster.compose_project import FILE, NODES, ComposeProject, run
from tests.scenarios.members import FullDisk, Member, OwnNetwork
from tests.scenarios.world import INTERVAL_S, World

#: Of the image's user.
_USER = 10001
_SECRETS = "/etc/miros-cache-net"
_STATE = "/var/lib/miros-cache-net"


class Project(ComposeProject):
    """docker-compose.yml with what is another here."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._override = directory / "override.json"  # what is JSON is YAML
        self._override.write_text(json.dumps({"services": self._services(directory)}))

    @staticmethod
    def _services(directory: Path) -> dict[str, Any]:
        secrets = f"{directory / 'keys'}:{_SECRETS}"
        nodes = {
            name: {
                "command": ["node"],
                "environment": {"MIROS_CACHE_DIGEST_INTERVAL_S": f"{INTERVAL_S:g}"},
                "volumes": [secrets, f"{directory / name}:{_STATE}"],
            }
            for name in NODES
        }
        return {"keys": {"volumes": [secrets]}, **nodes}

    def compose(self, *arguments: str, check: bool = True, timeout_s: float = 60.0) -> Any:
        files = ("-f", str(FILE), "-f", str(self._override))
        return super().compose(*files, *arguments, check=check, timeout_s=timeout_s)

    def of(self, service: str) -> dict[str, Any]:
        """What the engine knows of its container."""
        return self.containers()[service]


class ContainerMember(OwnNetwork, Member):
    """One container, which is one process and a network of its own; they share this machine's clock."""

    def __init__(self, project: Project, name: str, directory: Path, disk: SmallDisk) -> None:
        path = directory / name / "cache.json"
        super().__init__(name, path, directory / "keys" / "keys", Cache(path))
        self._project, self._disk = project, disk

    def await_keys(self, *keys: str) -> None:
        ring = [key_id(key) for key in keys]

        def look() -> bool:
            # as an administrator does, who is told to wait for it in docs/how-to/docker-compose.md
            printed = self._project.shell(self.name, "miros-cache-net", "status", "--json", check=False)
            read = {node["host"]: node["keys"] for node in json.loads(printed or '{"nodes": []}')["nodes"]}
            assert read.get(self.name) == ring, f"{read}, not {ring}"
            return True

        wait_until(look, timeout_s=60, what=f"{self.name} to read its keys")

    def kill(self) -> None:
        self._project.compose("kill", self.name)

    def stop(self) -> None:
        self._project.compose("stop", self.name)

    def start(self) -> None:
        self._project.compose("start", self.name)

    def pause(self) -> None:
        self._project.compose("pause", self.name)

    def resume(self) -> None:
        self._project.compose("unpause", self.name)

    def have_small_disk(self) -> None:
        """It has one from its beginning."""

    def fill_disk(self) -> None:
        self._full = FullDisk(self._disk.fill, self._disk.free)

    def free_disk(self) -> None:
        self._full.free()

    def run_there(self, *command: str) -> None:
        run(["nsenter", "-t", str(self._project.of(self.name)["State"]["Pid"]), "-n", *command])


class ContainedBroker:
    """The broker's container."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def kill(self) -> None:
        self._project.compose("kill", "rabbitmq")

    def stop(self) -> None:
        self._project.compose("stop", "rabbitmq", timeout_s=120)

    def start(self) -> None:
        self._project.compose("start", "rabbitmq", timeout_s=120)

    def pause(self) -> None:
        self._project.compose("pause", "rabbitmq")

    def resume(self) -> None:
        self._project.compose("unpause", "rabbitmq")

    def ctl(self, *arguments: str) -> str:
        return self._project.shell("rabbitmq", "rabbitmqctl", "--quiet", *arguments)


@contextlib.contextmanager
def containers(directory: Path) -> Iterator[World]:
    """Each host's file is on a small disk of its own."""
    project = Project(directory)
    with contextlib.ExitStack() as stack:
        disks = {}
        for name in (*NODES, "keys"):
            place = directory / name
            place.mkdir(0o700)
            if name in NODES:
                disks[name] = SmallDisk(place)
                stack.callback(disks[name].close)
            os.chown(place, _USER, _USER)
        # containers of another user pass through it
        for parent in (directory, directory.parent, directory.parent.parent):
            parent.chmod(0o711)
        stack.callback(project.close)
        project.up()
        members = [ContainerMember(project, name, directory, disks[name]) for name in NODES]
        for member in members:
            stack.callback(member.cache.close)
        key = members[0].keys.read_text().split()[0]
        yield World("containers", members, ContainedBroker(project), key)
