"""Which scenarios are played, and the table of them at the end.

Those that are marked for it whenever the tests run; with ``MIROS_CACHE_SCENARIOS=all``, or the name of a kind of host,
all of it; ``MIROS_CACHE_SCENARIO_TABLE`` names a file that the table is added to.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.scenarios.table import PLAYED, lines_of


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "scenario: a fault under load; see MIROS_CACHE_SCENARIOS")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = os.environ.get("MIROS_CACHE_SCENARIOS", "")

    def is_played(item: pytest.Item) -> bool:
        mark = item.get_closest_marker("scenario")
        return mark is None or mark.kwargs["in_ci"] or wanted in ("all", mark.args[0])

    left_out = [item for item in items if not is_played(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # as properties of the reports they come from wherever a test has run
    reports = terminalreporter.stats.get("passed", ())
    lines = lines_of([row for report in reports for name, row in report.user_properties if name == PLAYED])
    if not lines:
        return
    terminalreporter.section("scenarios")
    for line in lines:
        terminalreporter.write_line(line)
    if file := os.environ.get("MIROS_CACHE_SCENARIO_TABLE"):
        with Path(file).open("a") as stream:
            stream.write("\n".join(lines) + "\n")
