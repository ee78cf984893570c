"""Tells at the end which kinds of host the tests that passed had; .ci/run shows it above pytest's closing line."""

from __future__ import annotations

from collections import Counter

import pytest

KINDS = ("threads", "processes", "namespaces", "containers")
_PROPERTY = "kind of host"


def kind_of(item: pytest.Item) -> str:
    """The strongest kind of host that a test has, "" where it has none."""
    fixtures = set(getattr(item, "fixturenames", ()))
    if item.get_closest_marker("compose"):
        return "containers"
    if "network_namespaces" in fixtures or "namespace" in item.nodeid:
        return "namespaces"
    if "multiprocess" in item.nodeid or "process" in item.nodeid:
        return "processes"
    return "threads" if fixtures & {"hosts", "fleet", "crew"} else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.user_properties.append((_PROPERTY, kind_of(item)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed = Counter(dict(report.user_properties).get(_PROPERTY) for report in terminalreporter.getreports("passed"))
    told = ", ".join(f"{passed[kind]} with {kind}" for kind in KINDS if passed[kind])
    if told:
        terminalreporter.write_line(f"kinds of host: {told}")
