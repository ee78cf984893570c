"""docker-compose.monitoring.yml for real: what Prometheus has collected, and the page."""

from __future__ import annotations

import faulthandler
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.testing import wait_until
from miros_cache_net.testing.rabbit_files import free_port
from tests.cluster.compose_project import ComposeProject, run
from tests.cluster.stand_ins import variables

pytestmark = [pytest.mark.compose, pytest.mark.slow]

TARGETS = {"alpha:9464", "beta:9464", "gamma:9464"}


@pytest.fixture(autouse=True)
def patience() -> None:
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module")
def prometheus_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """This machine's Prometheus in an image, as Prometheus' own image has it."""
    directory: Path = tmp_path_factory.mktemp("prometheus")
    program = shutil.which("prometheus")
    assert program is not None, "script/bootstrap --tests installs it"
    shutil.copy(program, directory / "prometheus")
    base = variables("trixie")["PYTHON_IMAGE"]
    (directory / "Dockerfile").write_text(
        f"FROM {base}\nCOPY prometheus /bin/prometheus\n"
        "RUN install -d -o nobody -g nogroup /prometheus\nUSER nobody\n"
        'ENTRYPOINT ["/bin/prometheus"]\n'
    )
    image = "miros-cache-net-test-prometheus"
    run(["docker", "build", "--quiet", "--tag", image, str(directory)], timeout_s=300)
    return image


@pytest.fixture(scope="module")
def project(prometheus_image: str) -> Iterator[ComposeProject]:
    faulthandler.cancel_dump_traceback_later()
    ports = {"PAGE_PORT": str(free_port()), "PROMETHEUS_PORT": str(free_port())}
    project = ComposeProject(overrides=["monitoring"], PROMETHEUS_IMAGE=prometheus_image, **ports)
    try:
        project.up()
        yield project
    finally:
        project.close()
        assert project.remains() == []


def asked(project: ComposeProject, url: str, **headers: str) -> str:
    """What a container of the project gets there."""
    get = f"u.urlopen(u.Request({url!r}, headers={headers!r}), timeout=10)"
    code = f"import urllib.request as u; print({get}.read().decode())"
    return project.shell("alpha", "python3", "-c", code, check=False)


def prometheus(project: ComposeProject, what: str) -> Any:
    answer = asked(project, f"http://prometheus:9090/api/v1/{what}")
    return json.loads(answer)["data"] if answer else {}


def test_prometheus_collects_from_every_host(project: ComposeProject) -> None:
    def collected() -> bool:
        found = prometheus(project, "query?query=miros_cache_connected%20==%201").get("result", [])
        return {each["metric"]["instance"] for each in found} == TARGETS

    wait_until(collected, timeout_s=120, what="three hosts in step, as Prometheus has it")
    rules = prometheus(project, "rules")["groups"][0]["rules"]
    assert {rule["health"] for rule in rules} == {"ok"} and len(rules) >= 8


def test_page_shows_the_fleet_to_its_token(project: ComposeProject) -> None:
    found = wait_until(lambda: re.search(r"token: (\S+)", project.logs("page")), timeout_s=60, what="the token")
    assert found is not None
    assert asked(project, "http://page:8321/metrics") == "", "without it"

    def hosts_shown() -> int:
        metrics = asked(project, "http://page:8321/metrics", Authorization=f"Bearer {found[1]}")
        return metrics.count("miros_cache_connected{")

    wait_until(lambda: hosts_shown() == 3, timeout_s=60, what="all hosts on the page's metrics")
