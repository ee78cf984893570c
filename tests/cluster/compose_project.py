"""docker-compose.yml as a running project of a test's own: unique name, gone without trace afterwards."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any, NamedTuple

from tests.cluster.stand_ins import ROOT, variables

FILE = ROOT / "docker-compose.yml"
NODES = ("alpha", "beta", "gamma")
#: A loaded machine with two cores took 60 s for everything to be healthy, and 100 s for an image from nothing.
UP_S = 420.0


def compose_tools() -> list[list[str]]:
    """Every Compose on this machine, the plugin and the older program."""
    tools = []
    plugin = ["docker", "compose"]
    if shutil.which("docker") and run([*plugin, "version"], check=False).returncode == 0:
        tools.append(plugin)
    if shutil.which("docker-compose"):
        tools.append(["docker-compose"])
    return tools


def run(command: list[str], *, check: bool = True, timeout_s: float = 60.0, **environment: str) -> Any:
    """A finished `subprocess.CompletedProcess`; with `check`, AssertionError with its output if it failed."""
    variables = {**os.environ, **environment}
    done = subprocess.run(
        command, check=False, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=timeout_s
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done


class Generation(NamedTuple):
    """What a cluster is made with: Compose, and the base images of docker-compose.yml as its variables name them."""

    tool: list[str]
    images: dict[str, str]


def generation(suite: str) -> Generation:
    """Debian's "bookworm" or "trixie", from its stand-ins, which are made where they are missing.

    Base images that the environment names are taken for both.  A suite without a Compose of its own (bookworm) takes
    this machine's; so does a machine that has none but the other's.
    """
    names = ("PYTHON_IMAGE", "RABBITMQ_IMAGE")
    images = {name: os.environ[name] for name in names if os.environ.get(name)}
    if len(images) == len(names):
        return Generation(compose_tools()[0], {**images, "NODE_IMAGE": "miros-cache-net-test"})
    own = variables(suite)
    tools = [[own["COMPOSE_TOOL"]]] if "COMPOSE_TOOL" in own else compose_tools()
    if not tools:
        tools = [[variables("trixie")["COMPOSE_TOOL"]]]
    return Generation(tools[0], {**{name: own[name] for name in names}, "NODE_IMAGE": f"miros-cache-net-test:{suite}"})


class ComposeProject:
    """One run of the cluster, with RabbitMQ 4 unless another generation is named.

    overrides   what stands between the dots of the override's names
    variables   for the files, beside the images

    `close` removes containers, network and volumes.
    """

    def __init__(self, suite: str = "trixie", overrides: Sequence[str] = (), **variables: str) -> None:
        self.name = f"miros-cache-net-test-{secrets.token_hex(4)}"
        self._tool, self.images = generation(suite)
        self._variables = {**self.images, **variables}
        paths = [FILE, *(ROOT / f"docker-compose.{name}.yml" for name in overrides)] if overrides else []
        self._files = [word for path in paths for word in ("-f", str(path))]

    def compose(self, *arguments: str, check: bool = True, timeout_s: float = 60.0) -> Any:
        command = [*self._tool, "-p", self.name, *self._files, *arguments]
        return run(command, check=check, timeout_s=timeout_s, **self._variables)

    def up(self) -> None:
        """Returns when every dependency was healthy and the last containers are started."""
        self.compose("build", timeout_s=UP_S)
        _forget_replaced_images()
        try:
            self.compose("up", "-d", timeout_s=UP_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\nwhat the containers said last:\n{self.logs()[-4000:]}") from None

    def shell(self, service: str, *command: str, check: bool = True) -> str:
        output: str = self.compose("exec", "-T", service, *command, check=check).stdout
        return output

    def read(self, node: str) -> dict[str, Any]:
        """What `miros-cache-net read --json` prints on `node`, {} while it has no good document."""
        printed = self.shell(node, "miros-cache-net", "read", "--json", check=False)
        return json.loads(printed) if printed else {}

    def logs(self, service: str = "") -> str:
        output: str = self.compose("logs", "--no-color", *filter(None, [service])).stdout
        return output

    def containers(self) -> dict[str, dict[str, Any]]:
        """What the engine knows of each container, by service; of stopped ones too."""
        ids = run(["docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={self.name}"]).stdout.split()
        found = json.loads(run(["docker", "inspect", *ids]).stdout) if ids else []
        return {container["Config"]["Labels"]["com.docker.compose.service"]: container for container in found}

    def remains(self) -> list[str]:
        """Containers, networks and volumes of the project, whatever their state."""
        label = f"label=com.docker.compose.project={self.name}"
        lists = (["ps", "-aq"], ["network", "ls", "-q"], ["volume", "ls", "-q"])
        return [name for what in lists for name in run(["docker", *what, "--filter", label]).stdout.split()]

    def close(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans", timeout_s=180)


def _forget_replaced_images() -> None:
    """What earlier builds left without a name, but for the newest build stage: the next build needs its layers."""
    for stage, kept in (("build", 1), ("node", 0)):
        labelled = ["--filter", "dangling=true", "--filter", f"label=net.miros-cache.stage={stage}"]
        newest_first = run(["docker", "images", "--quiet", *labelled]).stdout.split()
        if newest_first[kept:]:
            run(["docker", "rmi", *newest_first[kept:]], check=False)
