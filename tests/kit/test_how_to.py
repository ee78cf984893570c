"""The how-to of the test kit, run as it is typed, where the package and pytest are all there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from miros_cache_net import testing
from tests.cli_command import SOURCES, clean_environment

HOW_TO = SOURCES / "docs" / "how-to" / "test-your-program.md"
REFERENCE = SOURCES / "docs" / "reference" / "testing.md"
QUOTED = re.compile(r"<!-- (\w+\.py) -->\n```python\n(.*?)```\n", re.DOTALL)
SNIPPETS = dict(QUOTED.findall(HOW_TO.read_text()))


def test_every_snippet_of_the_how_to_is_run() -> None:
    assert len(SNIPPETS) == HOW_TO.read_text().count("```python") > 0


@pytest.mark.parametrize("name", SNIPPETS)
def test_how_to_snippet_passes_as_typed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(SNIPPETS[name])
    plugin = "miros_cache_net.testing.fixtures"
    command = [sys.executable, "-m", "pytest", "-q", "-p", plugin, "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    finished = subprocess.run(
        [*command, name],
        cwd=tmp_path,
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-4000:] + finished.stderr[-2000:]
    assert "passed" in finished.stdout


def test_every_public_name_is_in_the_reference() -> None:
    text = REFERENCE.read_text()
    for name in testing.__all__:
        assert getattr(testing, name).__name__ == name
        assert f"miros_cache_net.testing.{name}\n" in text, name
