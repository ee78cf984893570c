"""Where the log goes, and what its lines look like."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from miros_cache_net.cli.log_lines import LONG, JsonLines, TextLines, log_to_stderr
from miros_cache_net.discovery.scout import ProducerScoutChart
from miros_cache_net.logs import PACKAGE_LOG, chart_log
from miros_cache_net.testing import free_port
from miros_cache_net.wire.keyring import generate_key
from tests.cli_command import start

FIELDS = {"time", "level", "logger", "process", "thread", "message", "exception"}
HOSTILE = "node \x1b[31m\u202e[bold]\nsecond line"


@pytest.fixture
def package_log() -> Iterator[logging.Logger]:
    yield PACKAGE_LOG
    for handler in [each for each in PACKAGE_LOG.handlers if not isinstance(each, logging.NullHandler)]:
        PACKAGE_LOG.removeHandler(handler)
    PACKAGE_LOG.propagate = True
    PACKAGE_LOG.setLevel(logging.NOTSET)


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("miros_cache_net.wire", logging.WARNING, "f", 1, "%s", (message,), None)


def test_chart_logs_below_its_room() -> None:
    assert chart_log(ProducerScoutChart, "10.0.0.1:5672").name == "miros_cache_net.discovery.10_0_0_1:5672"
    assert chart_log(logging.Handler, "mine").name == "miros_cache_net.statechart.mine"


def test_json_line_has_the_same_fields_always() -> None:
    plain = json.loads(JsonLines().format(record("x")))
    failed = record("y")
    try:
        raise ValueError("bad")
    except ValueError:
        failed.exc_info = sys.exc_info()
    broken = json.loads(JsonLines().format(failed))
    assert plain.keys() == broken.keys() == FIELDS
    assert plain["exception"] == "" and "ValueError: bad" in broken["exception"]


@pytest.mark.parametrize("form", [JsonLines(), TextLines(LONG)], ids=["json", "text"])
def test_hostile_names_stay_on_one_harmless_line(form: logging.Formatter) -> None:
    line = form.format(record(HOSTILE))
    assert not set(line) & {"\x1b", "\u202e", "\n"}
    assert "second line" in line


def test_last_form_wins(package_log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("WARNING", "text")
    log_to_stderr("WARNING", "json")
    package_log.getChild("wire").warning("once")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "once"


def said(directory: Path, before: str) -> str:
    """What a program that repairs a broken file prints on standard error."""
    path = directory / "cache.json"
    path.write_text("{broken")
    program = f"{before}\nfrom miros_cache_net import Cache\nCache({str(path)!r}).write({{'a': 1}})"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stderr


def test_library_says_nothing_unless_asked(tmp_path: Path) -> None:
    assert said(tmp_path, "") == ""
    assert "WARNING:miros_cache_net.cache:" in said(tmp_path, "import logging; logging.basicConfig()")


def test_node_logs_one_object_a_line(tmp_path: Path) -> None:
    place = {"MIROS_CACHE_AMQP_URL": f"amqp://localhost:{free_port()}", "MIROS_CACHE_KEYS": generate_key().decode()}
    with start(tmp_path, "node", "--log-format", "json", **place) as node:
        assert node.stderr is not None
        lines = [node.stderr.readline()]
        node.terminate()
        lines += node.stderr.readlines()
    assert all(json.loads(line).keys() == FIELDS for line in lines)
    assert any("miros_cache_net.node" in line for line in lines)
