"""The reference pages say what the code says."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import miros_cache_net
from miros_cache_net.errors import Reason
from miros_cache_net.events import PUBLIC_SIGNALS
from miros_cache_net.settings import Settings
from miros_cache_net.statechart.chart import Chart

DOCS = Path(__file__).parents[2] / "docs"
PUBLIC_CHARTS = ["CacheFileChart", "CacheNode", "ProducerScoutChart", "LanRecceChart", "LanChart", "ManNetChart"]


def test_the_pages_that_come_from_the_code_are_up_to_date() -> None:
    tool = DOCS / "tools" / "reference.py"
    done = subprocess.run([sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("stale", ["charts.md", "settings.md"])
def test_the_tool_finds_a_page_that_is_out_of_date_and_writes_it_anew(stale: str, tmp_path: Path) -> None:
    for folder in ("tools", "reference"):
        shutil.copytree(DOCS / folder, tmp_path / folder)
    page = tmp_path / "reference" / stale
    page.write_text(page.read_text() + "more\n")

    def tool(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(tmp_path / "tools" / "reference.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    checked = tool("--check")
    assert checked.returncode == 1 and f"out of date: {stale};" in checked.stderr
    assert tool().returncode == 0
    assert page.read_text() == (DOCS / "reference" / stale).read_text()


def section(page: str, title: str) -> str:
    """What stands under a heading of the second level."""
    text = (DOCS / "reference" / page).read_text()
    assert text.count(f"\n## {title}\n") == 1
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def declared_while_built(chart: type[Chart]) -> set[str]:
    parts = [inspect.getsource(each) for each in chart.__mro__ if each.__module__.startswith("miros_cache_net")]
    return {name for part in parts for name in re.findall(r'self\.state\(\s*"(\w{2,})"', part)}


@pytest.mark.parametrize(
    "chart", [getattr(miros_cache_net, name) for name in PUBLIC_CHARTS], ids=lambda chart: str(chart.__name__)
)
def test_every_public_chart_has_its_section_with_all_its_states(chart: type[Chart]) -> None:
    text = section("charts.md", chart.__name__)
    declared = {state.name for state in chart.STATES} or declared_while_built(chart)
    drawn = re.findall(r"^[| ]*\+-- (\w+)$", text, re.MULTILINE)
    assert declared and sorted(declared) == sorted(drawn)


def test_states_stand_inside_their_parents_and_events_say_where_they_lead() -> None:
    text = section("charts.md", "CacheFileChart")
    tree = "+-- file_access_waiting\n|   +-- file_accessed\n|   |   +-- file_read\n|   |   +-- file_write\n"
    assert tree in text
    assert "| `file_read` | `read_successful` | `file_access_waiting` |" in text


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_has_its_line(name: str) -> None:
    assert f"\n| `{name}` |" in (DOCS / "reference" / "settings.md").read_text()


@pytest.mark.parametrize("signal_name", PUBLIC_SIGNALS)
def test_every_public_signal_has_its_line(signal_name: str) -> None:
    assert f"| `{signal_name}` |" in (DOCS / "reference" / "signals.md").read_text()


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_its_line(reason: Reason) -> None:
    assert f"| `{reason.value}` |" in (DOCS / "reference" / "signals.md").read_text()
