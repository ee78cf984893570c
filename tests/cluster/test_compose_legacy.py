"""docker-compose.legacy.yml for real: two programs of the old package, each beside a broker at its own address."""

from __future__ import annotations

import faulthandler
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from miros_cache_net.testing import wait_until
from tests.cluster.compose_project import NODES, ROOT, ComposeProject, run
from tests.mesh.old_package import OLD_PYTHON

pytestmark = [pytest.mark.compose, pytest.mark.slow]

IMAGE = "miros-cache-net-test-legacy"
#: What docker/legacy.Dockerfile makes from a package index, made from the environment of this machine's tests.
DOCKERFILE = """\
FROM miros-cache-net-standin/debian:trixie
COPY python /opt/old
COPY legacy_program.py /opt/
ENV PYTHONUNBUFFERED=1 PATH=/opt/old/bin:$PATH PYTHONHOME=/opt/old LD_LIBRARY_PATH=/opt/old/lib
USER 10001:10001
WORKDIR /work
ENTRYPOINT ["python3", "/opt/legacy_program.py"]
"""


@pytest.fixture(autouse=True)
def patience() -> None:
    faulthandler.cancel_dump_traceback_later()


def of_old_python(code: str) -> Path:
    printed = subprocess.run([OLD_PYTHON, "-c", code], check=True, capture_output=True, text=True).stdout
    return Path(printed.strip())


def make_image(directory: Path) -> None:
    """The old package and its Python, with everything that they need."""
    home = of_old_python("import sys; print(sys.base_prefix)")
    site = of_old_python("import sysconfig; print(sysconfig.get_path('purelib'))")
    shutil.copytree(home, directory / "python", symlinks=True, ignore=shutil.ignore_patterns("test", "*.pyc"))
    inside = directory / "python" / "lib" / site.parent.name / "site-packages"
    shutil.copytree(site, inside, symlinks=True, dirs_exist_ok=True)
    shutil.copy(ROOT / "docker" / "legacy_program.py", directory)
    (directory / "Dockerfile").write_text(DOCKERFILE)
    run(["docker", "build", "--quiet", "--tag", IMAGE, str(directory)], timeout_s=300)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeProject]:
    faulthandler.cancel_dump_traceback_later()
    make_image(tmp_path_factory.mktemp("image"))
    project = ComposeProject(overrides=["legacy"], LEGACY_IMAGE=IMAGE, WRITES_EVERY_S="5")
    try:
        project.compose("build", "keys", timeout_s=420)
        project.compose("up", "--detach", "--no-build", timeout_s=420)
        yield project
    finally:
        project.close()
        run(["docker", "rmi", IMAGE], check=False)
        assert project.remains() == []


def test_story_of_old_programs_and_fleet(project: ComposeProject) -> None:
    for name in ("old-one", "old-two"):
        wait_until(lambda name=name: f"{name} writes" in project.logs(name), 240, f"{name} to write")

    def all_hold_one() -> bool:
        held = [project.read(node).get("dict", {}) for node in NODES]
        return all("written_by" in each for each in held)

    wait_until(all_hold_one, 120, "the fleet to hold what they write")
    for name in ("old-one", "old-two"):
        wait_until(lambda name=name: hears_gamma(project, name), 120, f"{name} to hear of gamma's change")


def hears_gamma(project: ComposeProject, name: str) -> bool:
    """Changed anew at each look: the next whole write of an old program takes it out."""
    project.shell("gamma", "miros-cache-net", "update", 'note="from gamma"')
    found = re.findall(r"hears CACHE (\{.*\})", project.logs(name))
    return any(json.loads(each).get("note") == "from gamma" for each in found)
