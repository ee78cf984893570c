"""The live page's own `/metrics` for Prometheus: the status of each node of the fleet, by node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from miros_cache_net.metrics.collector import GAUGES, PREFIX
from miros_cache_net.node_status import NodeStatus


class FleetCollector:
    """The gauges of `node --metrics` for every node that has answered, with the additional label `node`."""

    def __init__(self, statuses: Sequence[NodeStatus]) -> None:
        self._statuses = statuses

    def collect(self) -> Iterator[Metric]:
        for gauge in GAUGES:
            labels = gauge.labels if "node" in gauge.labels else ("node", *gauge.labels)
            metric = GaugeMetricFamily(PREFIX + gauge.name, gauge.help, labels=labels)
            for status in self._statuses:
                for values, number in gauge.read(status):
                    metric.add_metric(values if labels == gauge.labels else (status["node"], *values), number)
            yield metric


def fleet_text(statuses: Sequence[NodeStatus]) -> bytes:
    """The page for Prometheus."""
    registry = CollectorRegistry()
    registry.register(FleetCollector(statuses))
    return generate_latest(registry)
