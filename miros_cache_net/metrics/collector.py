"""A node's numbers for Prometheus: those of the registries, and those of its status.

Names begin with `miros_cache_`; counters end with `_total`.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from miros_cache_net.node_status import FOLLOWING, IN_STEP, JOINING, UNLINKED, NodeStatus
from miros_cache_net.observe.families import FAMILIES, Family
from miros_cache_net.observe.registry import PROCESS, Registry

PREFIX: Final = "miros_cache_"

#: The labels of a number, and the number.
Point = tuple[tuple[str, ...], float]


class Gauge(NamedTuple):
    """A number of a node's status.  `read` returns its points; none while it is unknown."""

    name: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[NodeStatus], Iterable[Point]]


def _known(value: float | None) -> list[Point]:
    return [] if value is None else [((), value)]


#: In the order of the page.
GAUGES: Final = (
    Gauge(
        "node_info",
        "1; its labels say which node this is.",
        ("node", "host", "release", "role", "scope", "document", "broker"),
        lambda s: [
            ((s["node"], s["host"], s["release"], s["role"], s["scope"], s["document"], s["broker"]), 1.0),
        ],
    ),
    Gauge(
        "document_info",
        "1; its label says which version of the document this host's file holds.",
        ("scope", "document", "version"),
        lambda s: [((s["scope"], s["document"], s["version"]), 1.0)] if s["version"] else [],
    ),
    Gauge(
        "node_state",
        "1 for the state of the node's chart, 0 for the others.",
        ("state",),
        lambda s: [((each,), float(each == s["state"])) for each in (UNLINKED, JOINING, IN_STEP, FOLLOWING)],
    ),
    Gauge(
        "connected",
        "1 while this host is in step with the fleet.",
        (),
        lambda s: _known(float(s["connected"])),
    ),
    Gauge(
        "check_ok",
        "1 for each check of `health` that passes, 0 for one that fails.",
        ("check",),
        lambda s: [((each["name"],), float(each["ok"])) for each in s["checks"]],
    ),
    Gauge("trouble", "1 while the node has trouble; `status` says which.", (), lambda s: _known(bool(s["trouble"]))),
    Gauge("document_age_seconds", "Since the document was discovered.", (), lambda s: _known(s["age_s"])),
    Gauge(
        "document_expires_seconds",
        "Until the document expires, negative once it has; absent if it never does.",
        (),
        lambda s: _known(s["expires_s"]),
    ),
    Gauge("document_expired", "1 once the document has expired.", (), lambda s: _known(float(s["expired"]))),
    Gauge(
        "write_lag_seconds",
        "From when the last change of another host was sent until this host's file held it, by the two hosts' clocks.",
        (),
        lambda s: _known(s["lag_s"]),
    ),
    Gauge(
        "clock_seconds",
        "This host's wall clock, in seconds since 1970, to compare with that of Prometheus.",
        (),
        lambda s: _known(s["clock_ms"] / 1000),
    ),
    Gauge("uptime_seconds", "Since the node started.", (), lambda s: _known(s["uptime_s"])),
    Gauge("keys", "Keys in this host's ring.", (), lambda s: _known(float(len(s["keys"])))),
)


def metric_name(family: Family) -> str:
    """The Prometheus name of a family of the registry."""
    return f"{PREFIX}{family.name}{'' if family.is_gauge else '_total'}"


class NodeCollector:
    """Collects the numbers at each scrape.  Thread-safe if `status` is."""

    def __init__(self, status: Callable[[], NodeStatus], registry: Registry) -> None:
        self._status, self._registries = status, (registry, PROCESS)

    def collect(self) -> Iterator[Metric]:
        """All metrics with their current values."""
        status = self._status()
        for gauge in GAUGES:
            metric = GaugeMetricFamily(PREFIX + gauge.name, gauge.help, labels=gauge.labels)
            for values, number in gauge.read(status):
                metric.add_metric(values, number)
            yield metric
        yield from self._counted()

    def _counted(self) -> Iterator[Metric]:
        numbers: dict[Family, Tally[tuple[str, ...]]] = {family: Tally() for family in FAMILIES}
        for sample in (each for registry in self._registries for each in registry.samples()):
            numbers[sample.family][sample.values] += sample.number
        for family in FAMILIES:
            made = GaugeMetricFamily if family.is_gauge else CounterMetricFamily
            metric: GaugeMetricFamily | CounterMetricFamily = made(
                PREFIX + family.name, family.help, labels=family.labels
            )
            # a labelled number is absent until first counted: its label values are unknown before
            for values, number in numbers[family].items() or ([] if family.labels else [((), 0)]):
                metric.add_metric(values, number)
            yield metric
