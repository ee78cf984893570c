"""The reference pages say what the code says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from miros_cache_net.errors import Reason
from miros_cache_net.events import PUBLIC_SIGNALS
from miros_cache_net.settings import Settings
from miros_cache_net.statechart.chart import Chart
from tests.public_charts import public_charts

DOCS = Path(__file__).parents[2] / "docs"


def test_pages_from_the_code_are_up_to_date() -> None:
    tool = DOCS / "tools" / "reference.py"
    done = subprocess.run([sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("stale", ["charts.md", "settings.md"])
def test_tool_finds_and_rewrites_an_outdated_page(stale: str, tmp_path: Path) -> None:
    for folder in ("tools", "reference", "_static"):
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


@pytest.mark.parametrize("chart", public_charts(), ids=lambda chart: str(chart.__name__))
def test_every_public_chart_shows_states_and_transitions(chart: type[Chart]) -> None:
    assert f"(../_static/charts/{chart.__name__}.svg)" in section("charts.md", chart.__name__)
    picture = ElementTree.parse(DOCS / "_static" / "charts" / f"{chart.__name__}.svg").getroot()
    drawn = {each.get("data-state") for each in picture.iter()} - {None}
    arrows = {(each.get("data-from"), each.get("data-to")) for each in picture.iter()} - {(None, None)}
    declared = {
        (s.name, to) for s in chart.STATES for signal, goals in s.on.items() if signal != "INIT" for to in goals
    }
    assert drawn == {state.name for state in chart.STATES}
    assert arrows == declared


def test_tool_draws_outdated_picture_again(tmp_path: Path) -> None:
    for folder in ("tools", "reference", "_static"):
        shutil.copytree(DOCS / folder, tmp_path / folder)
    picture = tmp_path / "_static" / "charts" / "ManNetChart.svg"
    shutil.copy(picture.with_name("LanChart.svg"), picture)
    command = [sys.executable, str(tmp_path / "tools" / "reference.py")]
    checked = subprocess.run([*command, "--check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 1 and "out of date: ManNetChart.svg;" in checked.stderr
    assert subprocess.run(command, check=False).returncode == 0
    assert "States of ManNetChart" in picture.read_text()


def test_every_transition_has_its_line() -> None:
    assert "| `file_read` | `read_successful` | `file_access_waiting` |" in section("charts.md", "CacheFileChart")


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_has_its_line(name: str) -> None:
    assert f"\n| `{name}` |" in (DOCS / "reference" / "settings.md").read_text()


@pytest.mark.parametrize("signal_name", PUBLIC_SIGNALS)
def test_every_public_signal_has_its_line(signal_name: str) -> None:
    assert f"| `{signal_name}` |" in (DOCS / "reference" / "signals.md").read_text()


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_its_line(reason: Reason) -> None:
    assert f"| `{reason.value}` |" in (DOCS / "reference" / "signals.md").read_text()


def test_pictures_are_up_to_date() -> None:
    tool = DOCS / "tools" / "pictures.py"
    done = subprocess.run([sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_plots_show_what_the_tables_say() -> None:
    tables = (DOCS.parent / "benchmarks" / "README.md").read_text()
    rows = dict(
        re.findall(r"^\| reads/s, 100 processes, 5 % writes \(against ([^)]*)\) \| [^|]*\| ([^|]*) /s \|", tables, re.M)
    )
    shown = (DOCS / "_static" / "pictures" / "reads.svg").read_text()
    assert rows and all(f">{float(number):,.0f} /s<" in shown for number in rows.values())
