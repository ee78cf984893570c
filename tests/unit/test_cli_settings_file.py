"""`settings --init`: a settings file to begin with."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from miros_cache_net.settings import Settings
from tests.cli_command import error_line, run

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_it_is_made_once_closed_to_others_and_changes_nothing(tmp_path: Path) -> None:
    before = run(tmp_path, "settings", "--json").stdout
    made = run(tmp_path, "settings", "--init")
    path = tmp_path / "miros-cache-net.toml"
    assert (made.returncode, path.stat().st_mode & 0o777) == (0, 0o600)
    assert str(path) in made.stdout
    assert run(tmp_path, "settings", "--json").stdout == before
    again = run(tmp_path, "settings", "--init")
    assert (again.returncode, "already exists" in error_line(again)) == (2, True)


def test_without_the_comment_signs_it_holds_every_setting(tmp_path: Path) -> None:
    text = run(tmp_path, "settings", "--init", "-").stdout
    values = tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))
    assert set(values) == set(Settings.model_fields) - {"keys", "trust_own_subnets"}
    prose = " ".join(text.replace("\n# ", " ").split())
    for described in Settings.describe():
        if described.field in values:
            assert " ".join(described.description.split()) in prose


def test_each_line_is_a_value_that_the_setting_takes(tmp_path: Path) -> None:
    text = run(tmp_path, "settings", "--init", "-").stdout
    # these name files that have to be there, and a login that needs them
    files = ("tls_ca_file", "tls_certificate_file", "tls_key_file", "external_login", "mesh_key_file")
    lines = [line[2:] for line in text.splitlines() if re.match(r"# \w+ = ", line) and not line[2:].startswith(files)]
    (tmp_path / "all.toml").write_text("\n".join(lines))
    shown = run(tmp_path, "settings", "--json", MIROS_CACHE_CONFIG="all.toml")
    assert shown.returncode == 0, shown.stderr
    set_there = {each["setting"] for each in json.loads(shown.stdout) if "all.toml" in each["source"]}
    assert set_there == {line.partition(" =")[0] for line in lines}


def test_a_directory_that_takes_no_file_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, "settings", "--init", "no/such.toml", "--json")
    assert "no/such.toml cannot be made: No such file or directory" in json.loads(done.stderr)["error"]
    assert "/proc/x.toml cannot be made: " in error_line(run(tmp_path, "settings", "--init", "/proc/x.toml"))
