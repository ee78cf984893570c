"""A fleet in containers for a test, with the verbs of `Fleet`."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from miros_cache_net.errors import CacheNetError
from miros_cache_net.settings import Settings
from miros_cache_net.settings.environment import variable
from miros_cache_net.testing.cable import Cable
from miros_cache_net.testing.compose_files import ComposeFiles
from miros_cache_net.testing.fleet import Fleet
from miros_cache_net.testing.host import Host, NotRunning, NotThisKind

#: An image that has to be built, and a broker's first start, on a busy machine.
_UP_S: Final = 420.0
_COMMAND_S: Final = 120.0
#: Names the program, where it is neither docker's plugin nor on the path.
_TOOL: Final = "COMPOSE_TOOL"
_FILES: Final = ("docker-compose.yml", "docker-compose.override.yml")


class ComposeFailed(CacheNetError):
    """Docker or Compose is missing, or failed; the message ends with what it said."""


class ComposeProject:
    """Compose's files in `directory`, and what runs of them; `close` leaves no container, network or volume."""

    def __init__(self, directory: Path) -> None:
        self.name = f"miros-cache-net-fleet-{secrets.token_hex(4)}"
        self._directory = directory
        self._tool = _compose_tool()

    def compose(self, *arguments: str, timeout_s: float = _COMMAND_S) -> str:
        return self._run([*self._tool, "-p", self.name, *arguments], timeout_s)

    def docker(self, *arguments: str) -> str:
        return self._run(["docker", *arguments], _COMMAND_S)

    def container(self, service: str) -> str:
        """The id of a service's container, whatever its state."""
        return self.compose("ps", "-aq", service).strip()

    def up(self) -> None:
        """Return when every container has started; `ComposeFailed` shows what they said otherwise."""
        try:
            self.compose("up", "--build", "--detach", timeout_s=_UP_S)
        except ComposeFailed as error:
            raise ComposeFailed(f"{error}\n{self.compose('logs', '--no-color')[-2000:]}") from None

    def close(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans")

    def _run(self, command: list[str], timeout_s: float) -> str:
        done = subprocess.run(
            command, cwd=self._directory, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if done.returncode:
            raise ComposeFailed(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
        return done.stdout


class NetworkPlug:
    """A container's place in its project's network."""

    def __init__(self, project: ComposeProject, service: str) -> None:
        self.settings: dict[str, Any] = {"amqp_urls": "amqp://rabbitmq:5672", "rabbit_user": "fleet"}
        self._project, self._service = project, service

    def cut(self) -> None:
        self._project.docker("network", "disconnect", self._network, self._project.container(self._service))

    def heal(self) -> None:
        container = self._project.container(self._service)
        self._project.docker("network", "connect", "--alias", self._service, self._network, container)

    def close(self) -> None:
        """It goes with its project."""

    @property
    def _network(self) -> str:
        return f"{self._project.name}_default"


class ContainerHost(Host):
    """A container with a directory of this machine for its file, so that reads and writes need no container.

    It has this machine's clock and disk: `skew` and `fill_disk` raise `NotThisKind`.
    """

    kind: ClassVar[str] = "container"

    def __init__(self, values: Mapping[str, Any], cable: Cable, project: ComposeProject) -> None:
        super().__init__(values, cable)
        self._project = project

    @property
    def running(self) -> bool:
        container = self._project.container(self.name)
        return self._project.docker("inspect", "--format", "{{.State.Running}}", container).strip() == "true"

    def start(self) -> None:
        self._project.compose("start", self.name)

    def stop(self) -> None:
        self._project.compose("stop", self.name)

    def kill(self) -> None:
        self._project.compose("kill", self.name)

    def status(self) -> dict[str, Any]:
        """What `miros-cache-net health --json` says of its node, and `connected`."""
        if not self.running:
            raise NotRunning(self.name)
        command = ("sh", "-c", "miros-cache-net health --json || true")
        found: dict[str, Any] = json.loads(self._project.compose("exec", "-T", self.name, *command))
        return {**found, "connected": found["healthy"]}

    def skew(self, seconds: float) -> None:
        raise NotThisKind(f"{self.name}, a container, has this machine's clock: make it kind='process'")

    def fill_disk(self) -> None:
        raise NotThisKind(f"{self.name}, a container, has this machine's disk: make it kind='process'")

    def close(self) -> None:
        self.cache.close()


class ComposeFleet(Fleet):
    """`hosts` in containers, all in step, with a RabbitMQ of their own; a context manager.

    directory  contains the project's files, and a directory for each host
    program    a Python file, with what it imports beside it, that builds a `CacheNode`; None: each host is a node
    file       the name of its cache file
    settings   of every host, by the names of `Settings`

    The images are those that NODE_IMAGE and RABBITMQ_IMAGE name, as in the project's docker-compose.yml.  Containers
    run as the test's own user.  `ComposeFailed` without Docker and Compose.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        directory: Path,
        program: Path | None = None,
        file: str = "cache.json",
        **settings: Any,
    ) -> None:
        super().__init__(directory)
        files = ComposeFiles(hosts, program.name if program else "", file=file)
        self.project = ComposeProject(directory)
        try:
            _write(directory, files, program, _variables(settings))
            self._stack.callback(self.project.close)
            self.project.up()
            for name in hosts:
                values = {
                    "file": str(directory / name / file),
                    "node_name": name,
                    "keys_file": directory / "keys" / "keys",
                }
                host = ContainerHost({**values, **settings}, NetworkPlug(self.project, name), self.project)
                self._stack.callback(host.close)
                self._hosts.append(host)
            for each in self:
                each.wait_joined()
        except BaseException:
            self.close()
            raise

    def add(self, *_arguments: Any, **_options: Any) -> Host:
        raise NotThisKind("a fleet in containers has the hosts that it was made with: ask for more of them")


def _write(directory: Path, files: ComposeFiles, program: Path | None, environment: Mapping[str, str]) -> None:
    for name, text in files.texts().items():
        (directory / name).write_text(text)
    if program is not None:
        for source in program.parent.glob("*.py"):
            shutil.copy(source, directory)
    (directory / _FILES[1]).write_text(json.dumps({"services": _services(directory, files.hosts, environment)}))


def _services(directory: Path, hosts: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """What is another in a test: directories of this machine for volumes, and their owner as the user."""
    for name in ("keys", "broker-config", *hosts):
        (directory / name).mkdir()
    (directory / "broker-config").chmod(0o755)
    secrets_of_hosts = f"{directory / 'keys'}:/etc/miros-cache-net"
    user = {"user": f"{os.getuid()}:{os.getgid()}"}
    config = f"{directory / 'broker-config'}:/etc/rabbitmq/conf.d"
    services: dict[str, Any] = {
        "keys": {**user, "volumes": [secrets_of_hosts, config]},
        "rabbitmq": {"volumes": [f"{config}:ro"]},
    }
    for name in hosts:
        volumes = [f"{secrets_of_hosts}:ro", f"{directory / name}:/var/lib/miros-cache-net"]
        services[name] = {**user, "volumes": volumes, "environment": dict(environment)}
    return services


def _variables(settings: Mapping[str, Any]) -> dict[str, str]:
    variables = {setting.field: setting.env_names for setting in Settings.describe() if setting.env_names}
    return {variables[field][0]: str(value) for field, value in settings.items()}


def _compose_tool() -> list[str]:
    if named := variable(_TOOL):
        return [named]
    if shutil.which("docker") is None:
        raise ComposeFailed("Docker is not installed: see docs.docker.com, or use fleet(n, kind='namespace')")
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise ComposeFailed(f"Compose is not installed; where it has another name, {_TOOL} names it")
