"""Writes docs/reference/metrics.md from the registry's table and the gauges of a node's status; a test compares.

python docs/tools/metrics.py
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from miros_cache_net.metrics.collector import GAUGES, PREFIX, metric_name
from miros_cache_net.observe.families import FAMILIES

PAGE = Path(__file__).parents[1] / "reference" / "metrics.md"

HEAD = """\
# Metrics

<!-- Made by docs/tools/metrics.py from the code; change it there. -->

`miros-cache-net node --metrics 127.0.0.1:9464`, or `CacheNode(metrics="127.0.0.1:9464")` in your own program, serves
three pages over HTTP ([how to use them](../how-to/monitor.md)). They need the extra `[metrics]`. There is no login:
every client that reaches the port may read. The pages contain names of hosts, brokers and documents, but no key, no
password and no contents of a document.

| page | answers |
| --- | --- |
| `/metrics` | everything below, in the format of Prometheus or OpenMetrics |
| `/healthz` | 200 while the node's thread answers, else 503: then restart it |
| `/readyz` | 200 while all checks of [`health`](commands.md) pass, else 503 and `not ready:` with the reasons |

Label values come from fixed lists, or are names of this node itself: no message from another host can add one.
An unknown number, such as the age of a document that was never written, is absent, not 0.

## The node and its document

"""

COUNTED = """
## What is counted

Each counter belongs to the node or to its process ([counters](counters.md) says which), and restarts with it.

"""


def page() -> str:
    """The whole page."""
    status = [_row(PREFIX + gauge.name, gauge.labels, "gauge", gauge.help) for gauge in GAUGES]
    counted = [
        _row(metric_name(each), each.labels, "gauge" if each.is_gauge else "counter", each.help) for each in FAMILIES
    ]
    return HEAD + "\n".join(_table(status)) + COUNTED + "\n".join(_table(counted))


def _table(rows: Sequence[str]) -> Iterator[str]:
    yield from ("| name | labels | kind | means |", "| --- | --- | --- | --- |", *rows, "")


def _row(name: str, labels: Sequence[str], kind: str, help: str) -> str:
    return f"| `{name}` | {', '.join(f'`{label}`' for label in labels)} | {kind} | {help} |"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
