"""CONTRIBUTING.md sends people to files that are there, and names every room of the house."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def part(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def paths(text: str) -> set[str]:
    return set(re.findall(r"`((?:miros_cache_net|tests|docs|benchmarks)/[\w/.-]+)`", text))


def test_every_file_that_it_names_is_there() -> None:
    assert {path for path in paths(TEXT) if not (ROOT / path).exists()} == set()


def test_ten_changes_have_their_files_and_tests() -> None:
    rows = [row.split("|")[1:4] for row in part("Ten changes, and where they go").splitlines() if row.startswith("| ")]
    changes = [row for row in rows if row[0].strip() not in ("you want to add", "---")]
    assert len(changes) == 10
    assert [name for name, files, _ in changes if not paths(files)] == []
    assert [name for name, _, tests in changes if not any(path.startswith("tests/") for path in paths(tests))] == []


def test_every_room_has_its_row() -> None:
    rooms = {path.name + "/" for path in (ROOT / "miros_cache_net").iterdir() if (path / "__init__.py").exists()}
    named = set(re.findall(r"^\| `(\w+/)` \|", part("The house"), re.MULTILINE))
    assert named == rooms
