"""The systemd units, judged by systemd's own tools, and what `install-service` makes of them."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from miros_cache_net.cli.service_unit import unit
from tests.cli_command import SOURCES, clean_environment, error_line, run

FILES = SOURCES / "deploy" / "systemd"
PAGE = SOURCES / "docs" / "how-to" / "systemd.md"
COMMAND_OF_FILES = "/opt/miros-cache-net/bin/python3 -m miros_cache_net"


def analyze(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(directory), "SYSTEMD_COLORS": "0"}
    return subprocess.run(
        ["systemd-analyze", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def written(directory: Path, *, of_user: bool) -> str:
    """A unit whose program exists, as `verify` wants it."""
    path = directory / "miros-cache-net.service"
    path.write_text(unit("/usr/bin/true", of_user=of_user))
    return str(path)


@pytest.mark.parametrize("of_user", [False, True])
def test_systemd_finds_nothing_wrong(tmp_path: Path, of_user: bool) -> None:
    manager = ["--user"] if of_user else []
    done = analyze(tmp_path, *manager, "verify", written(tmp_path, of_user=of_user))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("of_user", [False, True])
def test_the_page_tells_the_score_that_systemd_gives(tmp_path: Path, of_user: bool) -> None:
    shown = analyze(tmp_path, "security", "--offline=true", "--no-pager", written(tmp_path, of_user=of_user)).stdout
    (score,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", shown)
    kind = "of a user" if of_user else "of the machine"
    (told,) = re.findall(rf"unit {kind}: (\d+\.\d+)", PAGE.read_text())
    # releases of systemd weigh a little differently
    assert abs(float(told) - float(score)) <= 0.3


@pytest.mark.parametrize(
    ("name", "of_user"), [("miros-cache-net.service", False), ("user/miros-cache-net.service", True)]
)
def test_the_files_are_what_the_command_prints(name: str, of_user: bool) -> None:
    assert (FILES / name).read_text() == unit(COMMAND_OF_FILES, of_user=of_user)


def test_unit_is_written_with_a_key_and_its_program(tmp_path: Path) -> None:
    done = run(tmp_path, "install-service", "--user")
    assert done.returncode == 0, done.stderr
    made = tmp_path / ".config" / "systemd" / "user" / "miros-cache-net.service"
    assert f"\nExecStart={sys.executable} -m miros_cache_net node\n" in made.read_text()
    key = tmp_path / ".config" / "miros-cache-net" / "keys"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert "systemctl --user daemon-reload" in done.stdout
    before = key.read_bytes()
    assert run(tmp_path, "install-service", "--user").returncode == 0
    assert key.read_bytes() == before


def test_below_another_root_nothing_of_this_machine_changes(tmp_path: Path) -> None:
    done = run(tmp_path, "install-service", "--root", str(tmp_path / "image"))
    assert done.returncode == 0, done.stderr
    made = tmp_path / "image" / "etc" / "systemd" / "system" / "miros-cache-net.service"
    assert "User=miros-cache-net" in made.read_text()


def test_ordinary_users_are_told_of_their_own_kind(tmp_path: Path) -> None:
    # another user may not read this Python's libraries
    program = "import os; os.geteuid = lambda: 1000; from miros_cache_net.cli import main; "
    done = subprocess.run(
        [sys.executable, "-c", f"{program}raise SystemExit(main(['install-service']))"],
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--user" in error_line(done)


def test_a_program_at_home_is_refused(tmp_path: Path) -> None:
    program = "import sys; sys.executable = '/home/me/.venv/bin/python'; from miros_cache_net.cli import main; "
    done = subprocess.run(
        [sys.executable, "-c", f"{program}raise SystemExit(main(['install-service', '--print']))"],
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "home directory" in error_line(done)
