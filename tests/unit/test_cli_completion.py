"""What a shell completes, asked as the shells ask; and that nothing disturbs whoever types."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from miros_cache_net.settings.key_file import generate_key, key_id
from miros_cache_net.testing import Fleet
from tests.cli_command import clean_environment, error_line, run


def completed(directory: Path, line: str, **environment: str) -> set[str]:
    """What the shell would offer at the end of `line`; fails if anything else is said."""
    variables = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), **environment}
    finished = run(directory, _MIROS_CACHE_NET_COMPLETE="bash_complete", **variables)
    assert (finished.returncode, finished.stderr) == (0, "")
    return set(finished.stdout.split("\n")) - {""}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a document and a key."""
    contents = '{"addresses": ["10.0.0.7", "10.0.0.8"], "note": 1, "time_out_in_minutes": 60}'
    assert run(tmp_path, "write", stdin=contents).returncode == 0
    assert run(tmp_path, "key", "new").returncode == 0
    return tmp_path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("miros-cache-net re", {"plain,read"}),
        ("miros-cache-net read --k", {"plain,--key"}),
        ("miros-cache-net key r", {"plain,remove", "plain,rotate"}),
        ("miros-cache-net completion z", {"plain,zsh"}),
        ("miros-cache-net help ke", {"plain,key"}),
        ("miros-cache-net read --file pe", {"file,pe"}),
        ("miros-cache-net write di", {"file,di"}),
        ("miros-cache-net read --key n", {"plain,note"}),
        ("miros-cache-net update no", {"plain,note="}),
        ("miros-cache-net update --delete ad", {"plain,addresses"}),
        ("miros-cache-net scout 10", {"plain,10.0.0.7", "plain,10.0.0.8"}),
        ("miros-cache-net read --file other.json --key n", set()),
    ],
)
def test_words_are_completed_by_what_is_there(place: Path, line: str, expected: set[str]) -> None:
    assert completed(place, line) == expected


def test_key_ids_are_completed_and_no_key_is_shown(tmp_path: Path) -> None:
    keys = [generate_key(), generate_key()]
    offered = completed(tmp_path, "miros-cache-net key promote ", MIROS_CACHE_KEYS=b",".join(keys).decode())
    assert offered == {f"plain,{key_id(key)}" for key in keys}


def test_names_of_nodes_are_completed_by_this_hosts_bridge(hosts: Fleet) -> None:
    alpha, beta = hosts.add("alpha"), hosts.add("beta")
    path = alpha.node.file_chart.path
    offered = completed(path.parent, f"miros-cache-net status --file {path} ")
    assert offered == {f"plain,{host.status()['node']}" for host in (alpha, beta)}


@pytest.mark.parametrize(
    "broken",
    [
        {"MIROS_CACHE_CONFIG": "no-such.toml"},
        {"MIROS_CACHE_KEYS": "no key"},
        {"MIROS_CACHE_KEYS_FILE": "/no/such/file"},
        {"MIROS_CACHE_SCOUT_TIMEOUT_S": "soon"},
        {"MIROS_CACHE_FILE": "/"},
        {"MIROS_CACHE_FLIE": "misspelt"},
        {"HOME": "/nonexistent"},
    ],
    ids="".join,
)
def test_a_broken_configuration_completes_nothing_and_says_nothing(tmp_path: Path, broken: dict[str, str]) -> None:
    (tmp_path / "miros-cache-net.toml").write_text("[")
    assert completed(tmp_path, "miros-cache-net key promote ", **broken) == set()
    assert completed(tmp_path, "miros-cache-net update ", **broken) == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shells_script_is_printed(tmp_path: Path, shell: str) -> None:
    finished = run(tmp_path, "completion", shell)
    assert finished.returncode == 0
    assert f"_MIROS_CACHE_NET_COMPLETE={shell}_complete" in finished.stdout


def test_a_shell_that_is_not_known_is_refused(tmp_path: Path) -> None:
    refused = run(tmp_path, "completion", "tcsh")
    assert (refused.returncode, "'tcsh'" in error_line(refused)) == (2, True)


def test_bash_completes_with_the_script(place: Path) -> None:
    programs = place / "programs"
    programs.mkdir()
    (programs / "miros-cache-net").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m miros_cache_net "$@"\n')
    (programs / "miros-cache-net").chmod(0o755)
    script = (
        'eval "$(miros-cache-net completion bash)"; COMP_WORDS=(miros-cache-net read --key no); COMP_CWORD=3; '
        '_miros_cache_net_completion miros-cache-net; echo "${COMPREPLY[@]}"'
    )
    environment = clean_environment(place, PATH=f"{programs}:/usr/bin:/bin")
    done = subprocess.run(
        ["bash", "-c", script], cwd=place, env=environment, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("note\n", "")
