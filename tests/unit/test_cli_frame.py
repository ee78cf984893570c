"""The command's frame: the lazy list of commands, exit codes, and how every error becomes one line."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from miros_cache_net import errors
from miros_cache_net.cli import main
from miros_cache_net.cli.exits import Exit, Terminated, guarded, printable
from miros_cache_net.cli.lazy import LazyCommand
from miros_cache_net.cli.output import duration_text, print_json, print_table
from miros_cache_net.cli.root import SECTIONS, root
from miros_cache_net.settings.key_file import generate_key
from tests.cli_command import clean_environment, run

COMMANDS = [entry for entries in SECTIONS.values() for entry in entries]
HEAVY = ("pika", "pydantic", "cryptography", "miros", "rich", "watchdog", "inotify_simple")


def leaves() -> list[tuple[str, click.Command]]:
    """Every command and every command of a group, by the words that call it."""
    found: list[tuple[str, click.Command]] = []
    for entry in COMMANDS:
        command = import_module(entry.module).command
        found.append((entry.name, command))
        if isinstance(command, click.Group):
            found += [(f"{entry.name} {name}", each) for name, each in command.commands.items()]
    return found


# --- the list of commands -------------------------------------------------------------------------


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_command_has_one_summary_in_list_and_help(entry: LazyCommand) -> None:
    command = import_module(entry.module).command
    assert command.help.splitlines()[0] == entry.summary


@pytest.mark.parametrize(("name", "command"), leaves(), ids=[name for name, _ in leaves()])
def test_every_command_has_examples_and_option_helps(name: str, command: click.Command) -> None:
    assert command.help is not None
    examples = command.help.partition("Examples:")[2]
    assert f"miros-cache-net {name}" in examples
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


@pytest.mark.parametrize(("name", "command"), leaves(), ids=[name for name, _ in leaves()])
def test_the_options_in_a_commands_examples_exist(name: str, command: click.Command) -> None:
    known = {opt for parameter in command.params for opt in parameter.opts}
    assert command.help is not None
    for line in command.help.partition("Examples:")[2].splitlines():
        call = re.search(rf"miros-cache-net {name}\b([^|>&;]*)", line)
        if call is not None:
            assert set(re.findall(r"(?<!\S)--[a-z-]+", call[1])) <= known, line


def test_the_list_of_commands_imports_none_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import sys\nfrom miros_cache_net.cli import main\nmain(['--help'])\nprint(*sys.modules)"
    finished = run(Path.cwd(), before=(sys.executable, "-c", code))
    loaded = set(finished.stdout.split())
    assert not loaded.intersection(entry.module for entry in COMMANDS)
    assert not loaded.intersection(HEAVY)


@pytest.mark.parametrize("arguments", [("read",), ("write",), ("update", "a=1"), ("read", "--json")])
def test_file_commands_load_nothing_for_the_network(arguments: tuple[str, ...], tmp_path: Path) -> None:
    code = f"import sys\nfrom miros_cache_net.cli import main\nassert main({arguments!r}) == 0\nprint(*sys.modules)"
    run(tmp_path, "write", stdin='{"a": 1}')
    finished = run(tmp_path, stdin='{"a": 1}', before=(sys.executable, "-c", code))
    assert finished.returncode == 0, finished.stderr
    assert not set(finished.stdout.split()).intersection(HEAVY)


@pytest.mark.parametrize("arguments", [("read",), ("write",), ("update", "a=1"), ("health",)])
@pytest.mark.parametrize("named", [(), ("--file", "cache.json")])
def test_file_commands_warn_of_a_misspelt_variable(
    arguments: tuple[str, ...], named: tuple[str, ...], tmp_path: Path
) -> None:
    finished = run(tmp_path, *arguments, *named, stdin="{}", MIROS_CACHE_FLIE="x.json")
    warning = "MIROS_CACHE_FLIE is not a setting and is ignored; did you mean MIROS_CACHE_FILE?"
    assert finished.stderr.splitlines().count(warning) == 1


def test_file_commands_read_misspelt_names_in_dotenv(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MIROS_CACHE_FLIE=x.json\n")
    assert "MIROS_CACHE_FLIE is not a setting" in run(tmp_path, "write", stdin="{}").stderr
    assert "MIROS_CACHE_FLIE" not in run(tmp_path, "read", "--file", "cache.json").stderr


def test_unknown_command_brings_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["raed"]) == Exit.USAGE
    assert "there is no command 'raed'; did you mean 'read'?" in capsys.readouterr().err


def test_missing_command_shows_help_and_exits_with_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == Exit.USAGE
    shown = " ".join(capsys.readouterr().out.split())
    for entry in COMMANDS:
        assert f" {entry.name} {entry.summary}" in shown


def test_help_shows_the_help_of_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((), ("read",), ("key", "rotate")):
        assert main(["help", *words]) == Exit.DONE
        shown = capsys.readouterr().out
        assert main([*words, "--help"]) == Exit.DONE
        assert shown == capsys.readouterr().out
    assert main(["help", "raed"]) == Exit.USAGE
    assert "did you mean 'read'?" in capsys.readouterr().err
    assert main(["help", "read", "more"]) == Exit.USAGE
    assert "`miros-cache-net read` has no commands of its own" in capsys.readouterr().err


def test_h_is_help_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-h"]) == Exit.DONE
    assert main(["read", "-h"]) == Exit.DONE
    assert capsys.readouterr().out.count("Usage:") == 2


def test_the_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == Exit.DONE
    assert re.fullmatch(r"miros-cache-net (\d\S+|\(not installed\))\n", capsys.readouterr().out)


# --- how it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.SettingsError("x"), Exit.USAGE),
        (errors.PayloadError("x"), Exit.USAGE),
        (errors.PermissionRefused("x"), Exit.UNREACHABLE),
        (errors.LoginRefused("x"), Exit.UNREACHABLE),
        (click.UsageError("x"), Exit.USAGE),
        (OSError(28, "No space left on device"), Exit.UNREACHABLE),
        (KeyError("x"), Exit.BUG),
    ],
    ids=lambda value: type(value).__name__,
)
def test_error_is_one_line_and_decides_exit_code(
    error: Exception, code: Exit, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MIROS_CACHE_DEBUG", raising=False)

    def fail() -> int:
        raise error

    assert guarded(fail) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("miros-cache-net: error: ")
    assert printed.err.count("\n") == 1


def test_with_json_an_error_is_json_on_standard_error(tmp_path: Path) -> None:
    finished = run(tmp_path, "read", "--json", "--file", ".")
    (line,) = finished.stderr.splitlines()
    assert (finished.returncode, finished.stdout) == (Exit.UNREACHABLE, "")
    told = json.loads(line)
    assert told.pop("error").endswith("is a directory; name a file in it")
    assert told == {"kind": "FileRefused", "reason": "refused", "exit_code": 3}
    usage = json.loads(run(tmp_path, "read", "--json", "--no-such").stderr)
    assert (usage["kind"], usage["reason"], usage["exit_code"]) == ("NoSuchOption", "", 2)
    assert "--no-such" in usage["error"]
    assert run(tmp_path, "update", "--", "--json").stderr.startswith("miros-cache-net: error: ")


def test_bug_tells_how_to_get_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> int:
        raise KeyError("lost")

    monkeypatch.delenv("MIROS_CACHE_DEBUG", raising=False)
    assert guarded(fail) == Exit.BUG
    assert "MIROS_CACHE_DEBUG=1" in capsys.readouterr().err
    monkeypatch.setenv("MIROS_CACHE_DEBUG", "1")
    assert guarded(fail) == Exit.BUG
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt(), 130), (Terminated(), 143), (click.Abort(), 130)])
def test_an_interruption_is_no_error_and_prints_nothing(
    raised: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def end() -> int:
        raise raised

    assert guarded(end) == code
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, Exit.TERMINATED), (signal.SIGHUP, 129)])
def test_signal_unwinds_the_command_and_is_restored(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    unwound = []

    def work() -> int:
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            unwound.append(True)
        return 0

    assert guarded(work) == code
    assert unwound
    assert signal.getsignal(number) is before


def test_ignored_hang_up_stays_ignored(tmp_path: Path) -> None:
    code = (
        "import os, signal\nfrom miros_cache_net.cli.exits import guarded\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "raise SystemExit(guarded(lambda: os.kill(os.getpid(), signal.SIGHUP)))"
    )
    assert run(tmp_path, before=(sys.executable, "-c", code)).returncode == Exit.DONE


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_node_told_to_end_at_start_ends_cleanly(name: str, tmp_path: Path) -> None:
    code = f"""
import os, signal, sys
from miros_cache_net import node
from miros_cache_net.cli import main

class ToldToEnd(node.CacheNode):
    def __init__(self, *arguments, **options):
        os.kill(os.getpid(), signal.{name})
        super().__init__(*arguments, **options)
        os.kill(os.getpid(), signal.{name})

node.CacheNode = ToldToEnd
sys.exit(main(["node"]))
"""
    variables = {"MIROS_CACHE_KEYS": generate_key().decode(), "MIROS_CACHE_AMQP_URL": "amqp://127.0.0.1:9"}
    finished = run(tmp_path, before=(sys.executable, "-c", code), **variables)
    assert (finished.returncode, finished.stdout.splitlines()[-1].endswith("stopping")) == (0, True), finished


def test_reader_that_goes_away_is_met_with_silence(tmp_path: Path) -> None:
    contents = '{"many": [' + ",".join(["1"] * 200_000) + "]}"
    assert run(tmp_path, "write", stdin=contents).returncode == 0
    shell = f"{sys.executable} -m miros_cache_net read 2>errors | head -n 1; echo ${{PIPESTATUS[0]}}"
    finished = subprocess.run(
        ["bash", "-c", shell], cwd=tmp_path, env=clean_environment(tmp_path), capture_output=True, text=True, check=True
    )
    assert finished.stdout == "{\n141\n"
    assert finished.stderr == ""
    assert len((tmp_path / "errors").read_text().splitlines()) == 1  # the line about the age


def test_full_disk_under_the_output_is_one_line(tmp_path: Path) -> None:
    run(tmp_path, "write", stdin='{"a": 1}')
    with open("/dev/full", "wb") as full:
        finished = subprocess.run(
            [sys.executable, "-m", "miros_cache_net", "read", "--json"],
            cwd=tmp_path,
            env=clean_environment(tmp_path),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert finished.returncode == Exit.UNREACHABLE
    assert json.loads(finished.stderr)["error"] == "the operating system refuses: No space left on device"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("write",),
        ("write", "--json"),
        ("update", 'city="Łódź"'),
        ("read",),
        ("read", "--key", "city"),
        ("read", "--json"),
        ("settings",),
        ("settings", "--json"),
    ],
    ids=" ".join,
)
def test_output_that_cannot_be_encoded_is_escaped(arguments: tuple[str, ...], encoding: str, tmp_path: Path) -> None:
    place = tmp_path / "Łódź"
    place.mkdir()
    contents = '{"city": "Łódź"}'
    assert run(place, "write", stdin=contents).returncode == 0
    finished = subprocess.run(
        [sys.executable, "-m", "miros_cache_net", *arguments],
        cwd=place,
        input=contents.encode(),
        env=clean_environment(place, PYTHONIOENCODING=encoding, MIROS_CACHE_SITE="Łódź"),
        capture_output=True,
        check=False,
    )
    assert (finished.returncode, b"\\u0141" in finished.stdout) == (0, True), finished


def test_whoever_freezes_the_program_finds_every_command() -> None:
    text = Path(sys.modules[LazyCommand.__module__].__file__ or "").with_name("root.py").read_text("utf-8")
    imported = {
        f"{node.module}.{name.name}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert {entry.module for entry in COMMANDS} <= imported


def test_status_without_a_broker_shows_this_machines_file(tmp_path: Path) -> None:
    run(tmp_path, "write", stdin='{"a": 1}')
    variables = {"MIROS_CACHE_KEYS": generate_key().decode(), "MIROS_CACHE_AMQP_URL": "amqp://127.0.0.1:9"}
    plain = run(tmp_path, "status", **variables)
    assert (plain.returncode, plain.stdout.count("\n")) == (Exit.UNREACHABLE, 1)
    assert plain.stdout.startswith(f"this file: {tmp_path}")
    assert plain.stderr.startswith("miros-cache-net: error: ")
    for_programs = run(tmp_path, "status", "--json", **variables)
    assert for_programs.returncode == Exit.UNREACHABLE
    assert json.loads(for_programs.stdout)["file"]["version"]


# --- what is printed ------------------------------------------------------------------------------


def test_what_a_terminal_would_obey_is_made_visible(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable("a\x1b[2Jb\nc\x9bd\u202ee") == "a\\x1b[2Jb c\\x9bd\\u202ee"
    print_json({"a\x9b": "\x1b[2J\u202e"})
    assert capsys.readouterr().out == '{"a\\u009b": "\\u001b[2J\\u202e"}\n'


def test_infinite_numbers_become_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"age_s": float("inf"), "more": [float("nan"), 1.5]})
    assert capsys.readouterr().out == '{"age_s": null, "more": [null, 1.5]}\n'


def test_piped_table_is_uncut_and_uncoloured(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "what"), [("ok", "x" * 300), ("b[red]", "\x1b[31m")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["name", "what"], ["ok", "x" * 300], ["b[red]", "\\x1b[31m"]]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "60 min"), (7_300, "2 h"), (86_400, "1 day"), (3e5, "3 days")],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_root_takes_no_option_that_commands_want() -> None:
    assert {opt for parameter in root.params for opt in parameter.opts} == {"--version"}
