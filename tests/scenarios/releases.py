"""Other releases of this package: built of these sources, and installed beside them as pip does it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cli_command import SOURCES

_NEEDED = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in")


def installed(directory: Path, version: str, wire_format: int | None = None) -> Path:
    """The directory where that release is, made once in `directory`; `wire_format`: of its messages, if not ours."""
    directory = directory / version
    sources, place = directory / "sources", directory / "installed"
    if place.exists():
        return place
    sources.mkdir(parents=True)
    for name in _NEEDED:
        shutil.copy(SOURCES / name, sources)
    shutil.copytree(SOURCES / "miros_cache_net", sources / "miros_cache_net", ignore=shutil.ignore_patterns("*.pyc"))
    _change(sources / "pyproject.toml", r'^version = ".*"$', f'version = "{version}"')
    if wire_format is not None:
        _change(sources / "miros_cache_net/wire/envelope.py", r"^VERSION: Final = \d+$", f"VERSION = {wire_format}")
    _pip("wheel", "--wheel-dir", str(directory), str(sources))
    _pip("install", "--target", str(place), *map(str, directory.glob("*.whl")))
    return place


def before_ours(place: Path) -> str:
    """PYTHONPATH of a process that runs what is installed there."""
    return os.pathsep.join([str(place), *filter(None, sys.path)])


def _change(path: Path, line: str, new: str) -> None:
    text, count = re.subn(line, new, path.read_text(), flags=re.MULTILINE)
    assert count == 1, f"{path} has {count} lines {line}"
    path.write_text(text)


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run([*command, *arguments, "--no-deps"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
