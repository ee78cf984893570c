"""`key` and `settings`: what they do to the key file, what they say, and that nothing secret is ever shown."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from miros_cache_net.cli import main
from miros_cache_net.wire.keyring import generate_key, key_id, list_keys

SECRET = "s3cr3t-that-nobody-may-see"


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a working directory of the test's own, without settings of this machine."""
    import os

    for name in os.environ:
        if name.startswith(("MIROS_", "RABBIT_", "MESH_", "CONNECTION_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return tmp_path / ".config" / "miros-cache-net" / "keys"


def ids(path: Path) -> list[str]:
    return [info.key_id for info in list_keys(path)]


def test_first_key_is_made_private_and_never_shown(keys_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "new"]) == 0
    printed = capsys.readouterr()
    [made] = ids(keys_file)
    assert f"made key {made} in {keys_file}" in printed.out
    assert keys_file.stat().st_mode & 0o077 == 0
    assert keys_file.read_text().strip() not in printed.out + printed.err


def test_further_key_waits_for_its_promotion(keys_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["key", "new"])
    capsys.readouterr()
    assert main(["key", "new"]) == 0
    first, second = ids(keys_file)
    assert f"then run `miros-cache-net key promote {second}` on every host" in capsys.readouterr().out
    assert main(["key", "promote", second]) == 0
    assert ids(keys_file) == [second, first]
    assert f"{second} encrypts from now on" in capsys.readouterr().out
    assert main(["key", "remove", first]) == 0
    assert ids(keys_file) == [second]
    assert f"removed {first} from {keys_file}; 1 key left, {second} encrypts" in capsys.readouterr().out


def test_a_primary_key_encrypts_at_once(keys_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["key", "new"])
    capsys.readouterr()
    assert main(["key", "new", "--primary", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made == {"key_id": ids(keys_file)[0], "primary": True, "keys_file": str(keys_file)}


def test_list_names_each_key_and_its_source(keys_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["key", "new"])
    main(["key", "new"])
    first, second = ids(keys_file)
    capsys.readouterr()
    assert main(["key", "list"]) == 0
    printed = capsys.readouterr()
    rows = [line.split() for line in printed.out.splitlines()]
    assert rows == [["key", "does"], [first, "encrypts"], [second, "decrypts"]]
    assert printed.err == f"2 keys from {keys_file}\n"
    assert main(["key", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed == [
        {"key_id": first, "primary": True, "from": str(keys_file)},
        {"key_id": second, "primary": False, "from": str(keys_file)},
    ]


def test_keys_given_directly_overrule_the_file(
    keys_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = generate_key().decode()
    monkeypatch.setenv("MIROS_CACHE_KEYS", key)
    assert main(["key", "list", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == [{"key_id": key_id(key), "primary": True, "from": "MIROS_CACHE_KEYS"}]
    assert main(["key", "new"]) == 0
    printed = capsys.readouterr()
    assert "override key files" in printed.err
    assert key not in printed.out + printed.err


def test_another_key_file_can_be_named(tmp_path: Path, keys_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    assert main(["key", "new", "--keys-file", "other"]) == 0
    assert str(other) in capsys.readouterr().out
    assert len(ids(other)) == 1
    assert not keys_file.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["key", "list"], "does not exist; run `miros-cache-net key new`"),
        (["key", "promote", "00000000"], "cannot be changed: No such file or directory"),
        (["key", "new", "--keys-file", ""], "MIROS_CACHE_KEYS_FILE (argument keys_file): is not a path"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistake_with_keys_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_the_last_key_cannot_be_removed(keys_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["key", "new"])
    [only] = ids(keys_file)
    assert main(["key", "remove", only]) == 2
    assert "last key" in capsys.readouterr().err
    assert ids(keys_file) == [only]


def test_key_without_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key"]) == 2
    assert "promote" in capsys.readouterr().out


# --- settings -------------------------------------------------------------------------------------


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    assert main(["settings", "--json"]) == 0
    return {row["setting"]: row for row in json.loads(capsys.readouterr().out)}


def test_settings_show_each_value_and_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "miros-cache-net.toml").write_text('scope = "lab"\nexchange = "x"\n')
    (tmp_path / ".env").write_text("MIROS_CACHE_EXCHANGE=y\n")
    monkeypatch.setenv("RABBIT_PORT", "5673")
    rows = shown(capsys)
    assert (rows["scope"]["value"], rows["scope"]["source"]) == ("lab", "scope in miros-cache-net.toml")
    assert (rows["exchange"]["value"], rows["exchange"]["source"]) == ("y", "MIROS_CACHE_EXCHANGE")
    assert (rows["rabbit_port"]["value"], rows["rabbit_port"]["source"]) == (5673, "RABBIT_PORT")
    assert (rows["site"]["value"], rows["site"]["source"]) == ("", "default")


def test_settings_show_no_secret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    key = generate_key().decode()
    monkeypatch.setenv("MIROS_CACHE_KEYS", key)
    monkeypatch.setenv("RABBIT_PASSWORD", SECRET)
    monkeypatch.setenv("MIROS_CACHE_AMQP_URL", f"amqp://user:{SECRET}@alpha.lab")
    for arguments in (["settings"], ["settings", "--json"]):
        assert main(arguments) == 0
        printed = capsys.readouterr()
        assert "amqp://user@alpha.lab:5672" in printed.out
        assert SECRET not in printed.out + printed.err
        assert key not in printed.out + printed.err


def test_a_malformed_setting_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RABBIT_PORT", "many")
    assert main(["settings"]) == 2
    assert re.fullmatch(r"miros-cache-net: error: RABBIT_PORT: .*\n", capsys.readouterr().err)
