"""The stand-ins of script/compose-standins: which are there, and how they are used."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "script" / "compose-standins"


def variables(suite: str) -> dict[str, str]:
    """What the script says to export; it makes what is missing, and shows that."""
    done = subprocess.run([SCRIPT, suite], check=True, stdout=subprocess.PIPE, text=True, timeout=900)
    return dict(word.split("=", 1) for word in done.stdout.split()[1:])


def programs(suite: str) -> Path:
    """The suite's `rabbitmq-server` and what goes with it."""
    return Path(variables(suite)["TEST_RABBITMQ"])


@functools.cache
def are_there() -> bool:
    """Whether they are made, images included where there is an engine; or asked for by STANDINS=true."""
    asked = os.environ.get("STANDINS") == "true"
    return asked or subprocess.run([SCRIPT, "--check"], check=False, capture_output=True).returncode == 0


def engine_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], check=False, capture_output=True).returncode == 0
