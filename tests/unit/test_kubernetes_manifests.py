"""The manifests fit Kubernetes' schemas, and are as closed as its strictest standard for Pods wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from miros_cache_net.settings import Settings
from tests.cli_command import SOURCES

MANIFESTS = sorted((SOURCES / "deploy" / "kubernetes").glob("*.yaml"))


def loaded(name: str) -> Any:
    return yaml.safe_load((SOURCES / "deploy" / "kubernetes" / name).read_text())


def containers() -> list[dict[str, Any]]:
    spec = loaded("program.yaml")["spec"]["template"]["spec"]
    return [*spec["initContainers"], *spec["containers"]]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.name))
def test_the_schema_knows_every_field(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(document, "1.33", strict=True)


def test_no_container_may_more_than_it_needs() -> None:
    pod = loaded("program.yaml")["spec"]["template"]["spec"]
    assert (
        pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    )
    assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert {kind for volume in pod["volumes"] for kind in volume if kind != "name"} == {"emptyDir", "secret"}
    for container in containers():
        closed = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        assert container["securityContext"] == closed
        assert "memory" in container["resources"]["limits"]


def test_what_a_host_is_given_are_known_settings_without_secrets() -> None:
    known = {name for setting in Settings.describe() for name in setting.env_names}
    given = loaded("settings.yaml")["data"]
    assert set(given) <= known
    assert not any("@" in value for value in given.values())
    assert {entry["name"] for container in containers() for entry in container["env"]} <= known
