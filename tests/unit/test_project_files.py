"""What a project has for those who want to join it: it is there, it can be read, and it says what the scripts say."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("form", sorted(path.name for path in (GITHUB / "ISSUE_TEMPLATE").glob("[!c]*.yml")))
def test_a_form_can_be_filled_in(form: str) -> None:
    read = loaded(GITHUB / "ISSUE_TEMPLATE" / form)
    assert {"name", "description", "body"} <= set(read)
    fields = [each for each in read["body"] if each["type"] != "markdown"]
    assert fields and len({each["id"] for each in fields}) == len(fields)
    assert all(each["attributes"]["label"] for each in fields)


def test_whoever_reports_a_fault_is_asked_for_the_doctor() -> None:
    (doctor,) = [each for each in loaded(GITHUB / "ISSUE_TEMPLATE" / "bug.yml")["body"] if each.get("id") == "doctor"]
    assert doctor["validations"]["required"] and "miros-cache-net doctor" in doctor["attributes"]["label"]
    assert "miros-cache-net doctor" in (GITHUB / "pull_request_template.md").read_text()


def test_the_hosted_ci_runs_what_every_machine_runs() -> None:
    jobs = loaded(GITHUB / "workflows" / "ci.yml")["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    called = {name for name in (".ci/run", "script/build", "script/audit") if any(name in each for each in commands)}
    assert called == {".ci/run", "script/build", "script/audit"}
    assert all(os.access(ROOT / name, os.X_OK) or name == ".ci/run" for name in called)


def test_commits_are_checked_by_the_linters_of_the_test_script() -> None:
    (repository,) = loaded(ROOT / ".pre-commit-config.yaml")["repos"]
    # a commit names its files, and those excluded among them
    entries = [hook["entry"].removesuffix(" --force-exclude") for hook in repository["hooks"]]
    hooks = {entry.removeprefix(".venv/bin/") for entry in entries}
    in_script = set(
        re.findall(r'^"\$bin/((?:ruff|mypy)[^"]*)"(.*)$', (ROOT / "script" / "test").read_text(), re.MULTILINE)
    )
    assert hooks == {f"{name}{arguments}" for name, arguments in in_script}


@pytest.mark.parametrize(
    "who",
    [
        "without a key",
        "out of the ring",
        "of the ring",
        "the same host",
        "write the cache file",
        "neighbour on the LAN",
    ],
)
def test_the_threat_model_says_what_each_can_and_cannot(who: str) -> None:
    text = (ROOT / "SECURITY.md").read_text()
    rows = [row.split("|")[1:4] for row in text.splitlines() if row.startswith("| ")][2:]
    fits = [row for row in rows if who in row[0]]
    assert fits and all(can.strip() and cannot.strip() for _, can, cannot in fits)


def test_three_decisions_are_kept_with_their_alternatives() -> None:
    records = sorted((ROOT / "docs" / "explanation").glob("decision-*.md"))
    assert len(records) == 3
    for record in records:
        text = record.read_text()
        assert all(f"**{part}" in text for part in ("Question", "Decided", "Price"))
        assert text.count("\n| ") >= 6
        assert record.name in (ROOT / "CONTRIBUTING.md").read_text()


@pytest.mark.parametrize("script", ["build", "audit"])
def test_a_script_says_what_it_does(script: str) -> None:
    done = subprocess.run([ROOT / "script" / script, "--help"], capture_output=True, text=True, check=True, timeout=30)
    assert len(done.stdout.splitlines()) >= 2 and "set -e" not in done.stdout
