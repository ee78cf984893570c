"""`read`, `write`, `update` and `watch` as users run them: real processes, real files, a real terminal."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miros_cache_net.cache import Cache, read_cache
from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.store.sidecar import sidecar_path
from tests.cli_command import AMPLE_S, end_by, error_line, run, start, terminal

DEFAULT = ".miros_rabbitmq_cache.json"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A directory whose cache file holds a young document."""
    with Cache(tmp_path / DEFAULT) as cache:
        cache.write({"hosts": ["10.0.0.2"], "name": "café", "time_out_in_minutes": 60})
    return tmp_path


# --- read -----------------------------------------------------------------------------------------


def test_read_prints_document_and_tells_its_age_separately(written: Path) -> None:
    finished = run(written, "read")
    assert finished.returncode == 0
    assert json.loads(finished.stdout) == {"hosts": ["10.0.0.2"], "name": "café", "time_out_in_minutes": 60}
    assert "café" in finished.stdout
    line = error_line(finished)
    assert str(written / DEFAULT) in line
    assert "discovered" in line
    assert "expires in 60 min" in line


def test_read_json_prints_the_fields_of_the_payload(written: Path) -> None:
    finished = run(written, "read", "--json")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.count("\n") == 1
    shown = json.loads(finished.stdout)
    assert tuple(shown) == CacheReadPayload._fields
    assert shown["dict"]["hosts"] == ["10.0.0.2"]
    assert (shown["expired"], shown["version"]) == (False, read_cache(written / DEFAULT).version)


def test_read_of_one_key_prints_its_value_only(written: Path) -> None:
    assert json.loads(run(written, "read", "--key", "hosts").stdout) == ["10.0.0.2"]
    assert json.loads(run(written, "read", "--key", "hosts", "--json").stdout)["dict"] == {"hosts": ["10.0.0.2"]}


def test_read_of_missing_key_names_existing_keys(written: Path) -> None:
    finished = run(written, "read", "--key", "nope")
    assert (finished.returncode, finished.stdout) == (1, "")
    assert "no key 'nope'; its keys are hosts, name, time_out_in_minutes" in finished.stderr


def test_read_of_absent_file_fails_and_makes_nothing(tmp_path: Path) -> None:
    finished = run(tmp_path, "read")
    assert (finished.returncode, finished.stdout) == (1, "")
    assert "there is no such file" in error_line(finished)
    finished = run(tmp_path, "read", "--json")
    assert finished.returncode == 1
    assert json.loads(finished.stdout)["dict"] == {}
    assert list(tmp_path.iterdir()) == []


def test_read_of_expired_document_prints_it_and_fails(tmp_path: Path) -> None:
    with Cache(tmp_path / DEFAULT) as cache:
        cache.write({"a": 1, "time_out_in_minutes": 0})
    finished = run(tmp_path, "read")
    assert (finished.returncode, json.loads(finished.stdout)["a"]) == (1, 1)
    assert "expired" in error_line(finished)
    assert json.loads(run(tmp_path, "read", "--json").stdout)["expired"] is True


def test_read_says_how_long_ago_a_document_expired(tmp_path: Path) -> None:
    path = tmp_path / DEFAULT
    path.write_text('{"time_out_in_minutes": 60}')
    os.utime(path, (time.time(), time.time() - 3 * 3600))
    line = error_line(run(tmp_path, "read"))
    assert "discovered 3 h ago by a program that writes plain JSON, expired 2 h ago" in line


def test_read_of_malformed_file_fails_and_leaves_it(tmp_path: Path) -> None:
    (tmp_path / DEFAULT).write_text("{not json")
    os.utime(tmp_path / DEFAULT, (1e9, 1e9))
    finished = run(tmp_path, "read")
    assert (finished.returncode, finished.stdout) == (3, "")
    assert "no document in it: not JSON" in error_line(finished)
    assert (tmp_path / DEFAULT).read_text() == "{not json"


def test_json_survives_a_terminal_that_knows_no_unicode(written: Path) -> None:
    finished = run(written, "read", PYTHONIOENCODING="latin-1", PYTHONUTF8="0")
    assert json.loads(finished.stdout)["name"] == "café"


# --- which file -----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["option", "environment", "dotenv", "toml", "user", "named"])
def test_every_setting_of_the_cache_file_is_heeded(place: str, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "peers.json"
    target.parent.mkdir()
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    toml = f'file = "{target}"\n'
    if place == "option":
        arguments = ("--file", "elsewhere/peers.json")
    elif place == "environment":
        environment = {"MIROS_CACHE_FILE": str(target)}
    elif place == "dotenv":
        (tmp_path / ".env").write_text(f"MIROS_CACHE_FILE={target}\n")
    elif place == "toml":
        (tmp_path / "miros-cache-net.toml").write_text(toml)
    elif place == "user":
        config = tmp_path / ".config" / "miros-cache-net"
        config.mkdir(parents=True)
        (config / "config.toml").write_text(toml)
    else:
        (tmp_path / "other.toml").write_text(toml)
        environment = {"MIROS_CACHE_CONFIG": "other.toml"}
    finished = run(tmp_path, "write", *arguments, stdin='{"a": 1}', **environment)
    assert finished.returncode == 0, finished.stderr
    assert read_cache(target).dict == {"a": 1}


# --- write ----------------------------------------------------------------------------------------


def test_write_takes_standard_input_file_or_dash(tmp_path: Path) -> None:
    (tmp_path / "new.json").write_text('{"from": "file"}')
    for arguments, stdin, expected in (
        (("write",), '{"from": "pipe"}', "pipe"),
        (("write", "-"), '{"from": "dash"}', "dash"),
        (("write", "new.json"), "", "file"),
    ):
        finished = run(tmp_path, *arguments, stdin=stdin)
        assert finished.returncode == 0
        assert f"{tmp_path / DEFAULT}: 1 key stored; discovered just now by " in finished.stdout
        assert read_cache(tmp_path / DEFAULT).dict == {"from": expected}


def test_write_json_prints_what_is_stored(tmp_path: Path) -> None:
    shown = json.loads(run(tmp_path, "write", "--json", stdin='{"a": 1}').stdout)
    assert (shown["dict"], shown["version"]) == ({"a": 1}, read_cache(tmp_path / DEFAULT).version)


@pytest.mark.parametrize("arguments", [("write",), ("update", "a=b")], ids=lambda value: value[0])
def test_bad_input_is_one_line_and_changes_nothing(arguments: tuple[str, ...], written: Path) -> None:
    before = (written / DEFAULT).read_bytes()
    finished = run(written, *arguments, stdin="{")
    assert (finished.returncode, finished.stdout) == (2, "")
    assert "not JSON" in error_line(finished)
    assert (written / DEFAULT).read_bytes() == before


@pytest.mark.parametrize(("source", "said"), [("nope.json", "No such file or directory"), (".", "Is a directory")])
def test_a_source_that_cannot_be_read_is_named(source: str, said: str, tmp_path: Path) -> None:
    finished = run(tmp_path, "write", source)
    assert finished.returncode == 2
    assert error_line(finished) == f"miros-cache-net: error: {source} cannot be read: {said}"
    assert list(tmp_path.iterdir()) == []


def test_terminal_write_says_it_waits_for_input(tmp_path: Path) -> None:
    with terminal(tmp_path, "write") as screen:
        screen.show("type a JSON object, then Ctrl-D")
        screen.type('{"typed": true}\n\x04')
        assert screen.end() == 0
    assert read_cache(tmp_path / DEFAULT).dict == {"typed": True}


def test_terminal_ctrl_c_writes_nothing(tmp_path: Path) -> None:
    with terminal(tmp_path, "write") as screen:
        screen.show("type a JSON object")
        assert end_by(screen.process, signal.SIGINT) == 130
        screen.end()
        assert "Traceback" not in screen.shown
    assert list(tmp_path.iterdir()) == []


def test_waiting_write_on_a_terminal_says_for_what(written: Path) -> None:
    with contextlib.ExitStack() as stack, Cache(written / DEFAULT) as cache:
        screens = []

        def hold(contents: dict[str, Any]) -> dict[str, Any]:
            screens.append(stack.enter_context(terminal(written, "update", "a=1")))
            screens[0].show(f"another program is writing {written / DEFAULT}; waiting ...")
            return contents

        cache.modify(hold)
        assert screens[0].end() == 0
        assert cache.read().dict["a"] == 1


# --- the file's own troubles ----------------------------------------------------------------------


def test_a_directory_in_the_files_place_is_refused(tmp_path: Path) -> None:
    for arguments in (("read",), ("write",), ("update", "a=1"), ("watch", "--timeout", "0")):
        finished = run(tmp_path, *arguments, "--file", ".", stdin="{}")
        assert finished.returncode == 3
        assert "is a directory; name a file in it" in error_line(finished)


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for arguments in (("read",), ("write",), ("update", "a=1")):
        finished = run(tmp_path, *arguments, "--file", "pipe", stdin="{}")
        assert finished.returncode == 3
        assert "not a regular file" in error_line(finished)


def test_link_in_the_files_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("{}")
    (tmp_path / "link").symlink_to("target")
    finished = run(tmp_path, "write", "--file", "link", stdin='{"a": 1}')
    assert finished.returncode == 3
    assert "symbolic link" in error_line(finished)
    assert (tmp_path / "target").read_text() == "{}"


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    for arguments in (("write",), ("update", "a=1"), ("watch",)):
        finished = run(tmp_path, *arguments, "--file", "no/such/file.json", stdin="{}")
        assert finished.returncode == 3
        assert "its directory does not exist; create it" in error_line(finished)


#: Runs it once in vain as oneself, because a stranger may not be able to load this Python's modules.
STRANGER = """
import contextlib, io, os, sys
from miros_cache_net.cli import main
with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
    main([*sys.argv[1:], "--file", "/no/such/directory/file"])
os.geteuid() or os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def others_directory() -> Iterator[Path]:
    """A directory that everybody may look into, with a cache file that nobody else (or not even we) may open."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with Cache(directory / DEFAULT) as cache:
            cache.write({"a": 1})
        os.chmod(directory / DEFAULT, 0)
        os.chmod(directory, 0o555)
        yield directory
        os.chmod(directory, 0o755)


@pytest.mark.parametrize("arguments", [("read",), ("update", "a=2")], ids=lambda value: value[0])
def test_closed_file_error_names_owner_and_user(arguments: tuple[str, ...], others_directory: Path) -> None:
    Path(sidecar_path(others_directory / DEFAULT)).chmod(0)
    finished = run(others_directory, *arguments, before=(sys.executable, "-c", STRANGER))
    assert finished.returncode == 3
    line = error_line(finished)
    assert "no permission" in line
    assert f"{DEFAULT} is ---------- " in line
    assert ", you are " in line


# --- update ---------------------------------------------------------------------------------------


def test_update_changes_only_the_named_keys(written: Path) -> None:
    finished = run(written, "update", 'site="lab"', "n=[1, 2]", "--delete", "name", "--delete", "absent")
    assert finished.returncode == 0, finished.stderr
    assert read_cache(written / DEFAULT).dict == {
        "hosts": ["10.0.0.2"],
        "n": [1, 2],
        "site": "lab",
        "time_out_in_minutes": 60,
    }


def test_update_does_not_make_the_document_younger(written: Path) -> None:
    before = read_cache(written / DEFAULT).last_modified
    assert run(written, "update", "a=1").returncode == 0
    assert read_cache(written / DEFAULT).last_modified == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing to change: give KEY=JSON, or --delete KEY"),
        (("a=1", "--delete", "a"), "the key 'a' is both set and deleted"),
    ],
)
def test_empty_or_contradictory_update_is_refused(arguments: tuple[str, ...], said: str, written: Path) -> None:
    finished = run(written, "update", *arguments)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert said in error_line(finished)


# --- watch ----------------------------------------------------------------------------------------


def test_watch_prints_one_json_line_for_each_change(written: Path) -> None:
    with start(written, "watch", "--json", "--count", "3") as watching:
        assert watching.stderr is not None
        assert watching.stdout is not None
        assert "watching" in watching.stderr.readline()
        with Cache(written / DEFAULT) as cache:
            cache.update({"a": 1})
            assert json.loads(watching.stdout.readline())["dict"]["a"] == 1
        assert run(written, "write", stdin='{"b": 2}').returncode == 0
        assert json.loads(watching.stdout.readline())["dict"] == {"b": 2}
        (written / DEFAULT).write_text('{"plain": true}')
        assert json.loads(watching.stdout.readline())["dict"] == {"plain": True}
        assert watching.wait(AMPLE_S) == 0


def test_watch_tells_people_which_keys_changed(written: Path) -> None:
    with start(written, "watch", "--count", "1") as watching:
        assert watching.stderr is not None
        assert watching.stdout is not None
        watching.stderr.readline()
        assert run(written, "write", stdin='{"hosts": [], "new": 1}').returncode == 0
        line = watching.stdout.readline()
        assert "new: new, changed: hosts, gone: name time_out_in_minutes; discovered just now by" in line


def test_watch_survives_a_file_without_a_document(written: Path) -> None:
    with start(written, "watch", "--json", "--count", "1") as watching:
        assert watching.stderr is not None
        assert watching.stdout is not None
        watching.stderr.readline()
        (written / DEFAULT).write_text("broken")
        assert "no document in it" in watching.stderr.readline()
        (written / DEFAULT).write_text('{"mended": true}')
        assert json.loads(watching.stdout.readline())["dict"] == {"mended": True}


def test_watch_without_a_change_fails_after_its_time(written: Path) -> None:
    for arguments in (("--timeout", "0"), ("--timeout", "0.1", "--count", "2")):
        finished = run(written, "watch", *arguments)
        assert (finished.returncode, finished.stdout) == (1, "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_watch_at_once_without_a_word(number: signal.Signals, code: int, written: Path) -> None:
    with start(written, "watch") as watching:
        assert watching.stderr is not None
        watching.stderr.readline()
        assert end_by(watching, number) == code
        assert watching.stderr.read().strip() == ""


def test_command_leaves_only_writable_file_and_lock(written: Path) -> None:
    assert run(written, "update", "a=1").returncode == 0
    assert stat.S_IMODE((written / DEFAULT).stat().st_mode) & 0o200
    assert {path.name for path in written.iterdir()} == {DEFAULT, f".{DEFAULT}.lock"}
