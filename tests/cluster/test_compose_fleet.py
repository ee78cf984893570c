"""A user's own cluster: what `compose init` writes runs, and the fixture `compose_fleet` has the verbs of `fleet`."""

from __future__ import annotations

import faulthandler
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from miros_cache_net.testing import ComposeFleet, NotThisKind, wait_until
from miros_cache_net.testing.compose_files import ComposeFiles
from tests.cli_command import error_line
from tests.cli_command import run as run_command
from tests.cluster.compose_project import FILE, ROOT, UP_S, generation, run

EXAMPLE = ROOT / "examples" / "compose-statecharts"
FILES = ("docker-compose.yml", "Dockerfile", ".dockerignore")


# --- what is written ------------------------------------------------------------------------------


def test_the_example_is_what_compose_init_writes(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "station.py", tmp_path)
    done = run_command(tmp_path, "compose", "init", "-n", "3", "--program", "station.py")
    assert done.returncode == 0, done.stderr
    for name in FILES:
        assert (tmp_path / name).read_text() == (EXAMPLE / name).read_text(), f"{name}: make it again"


def test_what_is_there_already_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "my.py").touch()
    (tmp_path / "Dockerfile").write_text("mine")
    refused = run_command(tmp_path, "compose", "init", "--program", "my.py")
    assert refused.returncode == 2
    assert "Dockerfile" in error_line(refused)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Dockerfile", "my.py"]


@pytest.mark.parametrize("program", ["none.py", "../my.py", "a b.py", "$x.py", ""])
def test_a_program_that_cannot_be_is_refused(tmp_path: Path, program: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    for name in ("../my.py", "a b.py", "$x.py"):
        (place / name).touch()
    refused = run_command(place, "compose", "init", "--program", program)
    assert refused.returncode == 2
    assert repr(program) in error_line(refused)
    assert not (place / "docker-compose.yml").exists()


def test_a_made_host_is_as_closed_as_ours() -> None:
    made = yaml.safe_load(ComposeFiles(("one", "two"), "my.py").texts()["docker-compose.yml"])["services"]
    ours = yaml.safe_load(FILE.read_text())["services"]
    same = ("read_only", "cap_drop", "security_opt", "init", "pids_limit", "logging", "healthcheck", "tmpfs", "restart")
    assert {name: made["two"][name] for name in same} == {name: ours["beta"][name] for name in same}
    assert made["keys"]["network_mode"] == ours["keys"]["network_mode"] == "none"
    without_place = {name: value for name, value in ours["rabbitmq"].items() if name != "volumes"}
    assert {name: made["rabbitmq"][name] for name in without_place} == without_place
    assert [name for name in made if "build" in made[name]] == ["one"]


# --- and runs -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images() -> dict[str, str]:
    """Those of Debian trixie's generation, and Compose; the node's is built."""
    faulthandler.cancel_dump_traceback_later()
    tool, images = generation("trixie")
    build = ["docker", "build", "--quiet", "--tag", images["NODE_IMAGE"]]
    run([*build, "--build-arg", f"PYTHON_IMAGE={images['PYTHON_IMAGE']}", "."], timeout_s=UP_S)
    return {**images, "COMPOSE_TOOL": tool[0]} if len(tool) == 1 else images


@pytest.fixture
def engine(images: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    faulthandler.cancel_dump_traceback_later()
    for name, value in images.items():
        monkeypatch.setenv(name, value)
    yield


@pytest.mark.compose
@pytest.mark.slow
@pytest.mark.usefixtures("engine")
def test_the_example_surveys_once_for_all(tmp_path: Path, images: dict[str, str]) -> None:
    place = tmp_path / f"example-{tmp_path.name}".lower().replace("_", "-")
    shutil.copytree(EXAMPLE, place)
    tool = [images["COMPOSE_TOOL"]] if "COMPOSE_TOOL" in images else ["docker", "compose"]

    def compose(*arguments: str) -> str:
        done = subprocess.run([*tool, *arguments], cwd=place, capture_output=True, text=True, timeout=UP_S, check=False)
        assert done.returncode == 0, f"{arguments}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout

    def known(host: str) -> dict[str, Any]:
        return dict(json.loads(compose("exec", "-T", host, "miros-cache-net", "read", "--json"))["dict"])

    hosts = ("alpha", "beta", "gamma")
    everything = {"surveyed_by", "time_out_in_minutes", *(f"report of {host}" for host in hosts)}
    try:
        compose("up", "--build", "--detach")
        wait_until(lambda: all(set(known(host)) == everything for host in hosts), timeout_s=60)
        assert len({known(host)["surveyed_by"] for host in hosts}) == 1
    finally:
        compose("down", "--volumes")


@pytest.mark.compose
@pytest.mark.slow
@pytest.mark.usefixtures("engine")
def test_containers_have_the_verbs_of_a_fleet(compose_fleet: Callable[..., ComposeFleet]) -> None:
    hosts = compose_fleet(2, digest_interval_s=2.0)
    hosts[0].write({"a": 1})
    hosts.agree(on=lambda contents: contents == {"a": 1})
    hosts[1].cut()
    wait_until(lambda: not hosts[1].connected, timeout_s=60)
    hosts[0].update({"b": 2})
    hosts[1].update({"c": 3})
    hosts[1].heal()
    hosts.agree(on=lambda contents: contents == {"a": 1, "b": 2, "c": 3})
    hosts[0].kill()
    wait_until(lambda: not hosts[0].running, timeout_s=60)
    hosts[1].delete("a")
    hosts[0].start()
    hosts[0].wait_joined()
    hosts.agree(on=lambda contents: contents == {"b": 2, "c": 3})
    with pytest.raises(NotThisKind):
        hosts[0].skew(60)
