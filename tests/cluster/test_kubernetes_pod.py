"""The Pod of deploy/kubernetes as far as one machine goes: the image with its users, mounts, environment and probes.

A Secret is mounted as the kubelet does it: files of root's, open to the group `fsGroup`, behind two links.  A shared
directory is root's, of that group, open to all and setgid.
"""

from __future__ import annotations

import faulthandler
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.testing import RabbitServer, wait_until
from tests.cluster.compose_project import UP_S, generation, run
from tests.unit.test_kubernetes_manifests import loaded

pytestmark = [pytest.mark.compose, pytest.mark.slow]

#: What Kubernetes sets in every Pod where a Service has that name, unless `enableServiceLinks` is false.
INJECTED = {
    f"{service}_{name}": value
    for service in ("RABBIT", "MIROS_CACHE", "MIROS_CACHE_NET")
    for name, value in {
        "PORT": "tcp://10.96.0.7:5672",
        "SERVICE_HOST": "10.96.0.7",
        "SERVICE_PORT": "5672",
        "PORT_5672_TCP": "tcp://10.96.0.7:5672",
        "PORT_5672_TCP_ADDR": "10.96.0.7",
    }.items()
}


@pytest.fixture
def image() -> str:
    faulthandler.cancel_dump_traceback_later()
    images = generation("trixie").images
    build = ["docker", "build", "--quiet", "--tag", images["NODE_IMAGE"]]
    run([*build, "--build-arg", f"PYTHON_IMAGE={images['PYTHON_IMAGE']}", "."], timeout_s=UP_S)
    return images["NODE_IMAGE"]


class Pod:
    """The node's container, by `docker run`."""

    def __init__(self, directory: Path, image: str, broker: RabbitServer) -> None:
        self.name = f"miros-cache-net-pod-{secrets.token_hex(4)}"
        self._spec = loaded("program.yaml")["spec"]["template"]["spec"]
        (self.node,) = self._spec["initContainers"]
        self._group = self._spec["securityContext"]["fsGroup"]
        broker.add_user("cache", "hunter2")
        mounts = {
            "cache": self._shared(directory / "cache"),
            "tmp": self._shared(directory / "tmp"),
            "secret": self._secret(directory / "secret"),
        }
        settings = {**loaded("settings.yaml")["data"], "MIROS_CACHE_AMQP_URL": f"amqp://rabbit:{broker.port}"}
        environment = {**INJECTED, **settings, "MIROS_CACHE_NODE_NAME": "program-6d5f7c9b8-abcde"}
        run(["docker", "run", "--detach", *self._options(mounts, environment), image, *self.node.get("args", [])])

    def _options(self, mounts: dict[str, Path], environment: dict[str, str]) -> list[str]:
        pod, own = self._spec["securityContext"], self.node["securityContext"]
        assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"]
        options = ["--name", self.name, "--user", f"{pod['runAsUser']}:{pod['runAsGroup']}"]
        options += ["--group-add", str(self._group), "--read-only", "--security-opt", "no-new-privileges:true"]
        options += [f"--cap-drop={name}" for name in own["capabilities"]["drop"]]
        options += ["--network", "host", "--add-host", "rabbit:127.0.0.1", "--memory", "256m"]
        for mount in self.node["volumeMounts"]:
            end = ":ro" if mount.get("readOnly") else ""
            options += ["--volume", f"{mounts[mount['name']]}:{mount['mountPath']}{end}"]
        return [*options, *(f"--env={name}={value}" for name, value in environment.items())]

    def _shared(self, path: Path) -> Path:
        path.mkdir()
        os.chown(path, 0, self._group)
        path.chmod(0o2777)
        return path

    def _secret(self, path: Path) -> Path:
        (volume,) = [each["secret"] for each in self._spec["volumes"] if "secret" in each]
        data = path / "..2026_11_28"
        data.mkdir(parents=True)
        (path / "..data").symlink_to(data.name)
        for name, contents in {"keys": generate_key() + b"\n", "rabbit-password": b"hunter2"}.items():
            (data / name).write_bytes(contents)
            os.chown(data / name, 0, self._group)
            (data / name).chmod(volume["defaultMode"])
            (path / name).symlink_to(f"..data/{name}")
        path.chmod(0o755)
        return path

    def probe(self, kind: str) -> subprocess.CompletedProcess[str]:
        done: Any = run(["docker", "exec", self.name, *self.node[kind]["exec"]["command"]], check=False)
        return done  # type: ignore[no-any-return]

    def exec(self, *command: str) -> str:
        return str(run(["docker", "exec", self.name, *command]).stdout)

    def logs(self) -> str:
        return str(run(["docker", "logs", self.name], check=False).stdout)

    def close(self) -> None:
        run(["docker", "rm", "--force", self.name], check=False)


@pytest.fixture
def broker() -> Iterator[RabbitServer]:
    with RabbitServer() as server:
        yield server


@pytest.fixture
def pod(tmp_path: Path, image: str, broker: RabbitServer) -> Iterator[Pod]:
    made = Pod(tmp_path, image, broker)
    yield made
    made.close()


def test_the_node_serves_and_its_probes_tell_the_truth(pod: Pod, broker: RabbitServer) -> None:
    wait_until(lambda: pod.probe("readinessProbe").returncode == 0, timeout_s=60, what="readiness")
    assert pod.probe("startupProbe").returncode == 0
    pod.exec("miros-cache-net", "update", "a=1")
    assert '"a": 1' in pod.exec("miros-cache-net", "read")
    broker.kill()
    wait_until(lambda: pod.probe("readinessProbe").returncode == 1, timeout_s=60, what="the broker's end")
    assert pod.probe("livenessProbe").returncode == 0, "no restart brings a broker back"
    run(["docker", "pause", pod.name])
    run(["docker", "unpause", pod.name])
    assert pod.probe("livenessProbe").returncode == 0
    run(["docker", "stop", "--time", "20", pod.name])
    assert run(["docker", "inspect", "--format", "{{.State.ExitCode}}", pod.name]).stdout.strip() == "0", pod.logs()
