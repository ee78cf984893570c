"""Which tests of the compose cluster can run: those marked `compose` need a Docker Engine and base images.

They run where the stand-ins of script/compose-standins are already, or where COMPOSE=true asks for them; then
PYTHON_IMAGE and RABBITMQ_IMAGE, where both are set, are used in place of the stand-ins.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

STAND_INS = Path(__file__).parents[2] / "script" / "compose-standins"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "compose: runs docker-compose.yml for real (minutes); see COMPOSE=true")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("compose")]
    if marked and not _can_run():
        config.hook.pytest_deselected(items=marked)
        items[:] = [item for item in items if item not in marked]


def _can_run() -> bool:
    if os.environ.get("COMPOSE") == "true":
        return True
    if shutil.which("docker") is None or not (shutil.which("docker-compose") or _has_plugin()):
        return False
    return subprocess.run([STAND_INS, "--check"], check=False, capture_output=True).returncode == 0


def _has_plugin() -> bool:
    return subprocess.run(["docker", "compose", "version"], check=False, capture_output=True).returncode == 0
