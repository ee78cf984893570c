"""The state of the fleet, from its nodes' answers so far: a plain object without a thread or a link.

A node that no longer answers stays in the picture for a while, with the likely reason for its silence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from miros_cache_net import limits
from miros_cache_net.document import strict_json
from miros_cache_net.document.value import Document
from miros_cache_net.observe.shown import without_logins
from miros_cache_net.view.chart_memory import ChartMemory

#: The health of a node, from best to worst; the page has a colour and a word for each.
WELL, WAITING, TROUBLED, GONE = "well", "waiting", "troubled", "gone"
#: One answer may be late; after this many seconds without one the node counts as gone.
GONE_AFTER_S: Final = 5.0
#: How long a gone node stays in the picture, and how far back the plots go.
MEMORY_S: Final = 900.0
#: The shortest time between two points of a plot.
_PLOT_STEP_S: Final = 5.0
Json = dict[str, Any]


@dataclass
class _Known:
    """A node that has answered: its last status, and when it arrived."""

    status: Mapping[str, Any]
    heard_s: float


@dataclass
class FleetMemory:
    """Call all methods on one thread.  `now_s` comes from a monotonic clock, `wall_ms` from the wall clock."""

    scope: str
    document_name: str
    #: The charts of all nodes.
    charts: ChartMemory = field(default_factory=ChartMemory)
    _nodes: dict[str, _Known] = field(default_factory=dict)
    _document: Document | None = None
    _link: str = "connecting to the broker"
    _points: deque[tuple[int, Json]] = field(default_factory=lambda: deque(maxlen=int(MEMORY_S / _PLOT_STEP_S)))
    _plotted_s: float = float("-inf")

    # --- what happened ------------------------------------------------------------------------------------------------

    def answered(self, statuses: Sequence[Mapping[str, Any]], now_s: float, wall_ms: int) -> None:
        """These nodes have answered a question to the fleet."""
        self._link = ""
        for status in statuses[: limits.VIEW_NODES]:
            name = _text(status.get("node")) or "?"
            self._nodes[name] = _Known(status, now_s)
        for name in [name for name, known in self._nodes.items() if now_s - known.heard_s > MEMORY_S]:
            del self._nodes[name]
            self.charts.forget(name)
        self._plot(now_s, wall_ms)

    def unlinked(self, why: str) -> None:
        """The fleet cannot be asked."""
        self._link = why

    def holds(self, document: Document | None) -> None:
        """The fleet's document now."""
        self._document = document

    def needs_document(self) -> bool:
        """Whether a node has a different version than the known document."""
        known = self._document.version if self._document else ""
        return any(each.status.get("version") not in ("", known) for each in self._nodes.values())

    def _plot(self, now_s: float, wall_ms: int) -> None:
        if now_s - self._plotted_s < _PLOT_STEP_S:
            return
        self._plotted_s = now_s
        total: Json = {}
        for known in self._nodes.values():
            counters = known.status.get("counters")
            for name, number in counters.items() if isinstance(counters, Mapping) else ():
                if isinstance(number, int) and len(total) < limits.VIEW_COUNTERS:
                    total[str(name)] = total.get(str(name), 0) + number
        self._points.append((wall_ms, total))

    # --- what is shown ------------------------------------------------------------------------------------------------

    def picture(self, now_s: float, wall_ms: int) -> Json:
        """Everything that the page shows, except the plots."""
        return {
            "at_ms": wall_ms,
            "link": self._link,
            "scope": self.scope,
            "document": self.document_name,
            "nodes": [self._node(name, known, now_s) for name, known in sorted(self._nodes.items())],
            "contents": self._contents(),
            "write": self._write(),
            "charts": self.charts.now(),
            "changes": self.charts.transitions(),
            "point": self._points[-1] if self._points else None,
        }

    def plots(self) -> list[tuple[int, Json]]:
        """The counters of the whole fleet over the last quarter of an hour, as points in time with their numbers."""
        return list(self._points)

    def _node(self, name: str, known: _Known, now_s: float) -> Json:
        status = known.status
        silent_s = now_s - known.heard_s
        health, why = self._judged(status, silent_s)
        shown = {field: status.get(field) for field in _SHOWN}
        shown |= {"node": name, "state": _state(status), "health": health, "why": why, "silent_s": round(silent_s)}
        return shown

    def _judged(self, status: Mapping[str, Any], silent_s: float) -> tuple[str, str]:
        if self._link:
            return WAITING, "unknown while this page has no link to the broker"
        if silent_s > GONE_AFTER_S:
            where = f"process {status.get('pid')} on {_text(status.get('host')) or 'its host'}"
            return GONE, f"no answer for {silent_s:.0f} s: {where} has ended, hangs, or is cut off from the broker"
        if trouble := _text(status.get("trouble")):
            return TROUBLED, trouble
        return (WELL, "") if status.get("connected") else (WAITING, "not in step with the fleet yet")

    def _contents(self) -> Json:
        document = self._document
        if document is None:
            return {"version": "", "entries": [], "more": 0}
        visible = [(key, entry) for key, entry in document.entries.items() if not entry.deleted]
        newest = sorted(visible, key=lambda item: item[1].stamp, reverse=True)
        return {
            "version": document.version,
            "entries": [
                {"key": key, "value": _shown(entry.value), "by": entry.stamp.node, "at_ms": entry.stamp.wall_ms}
                for key, entry in newest[: limits.VIEW_ENTRIES]
            ],
            "more": max(0, len(newest) - limits.VIEW_ENTRIES),
        }

    def _write(self) -> Json | None:
        """How the last write spread: which node made it, and how long each other node took to get it."""
        document = self._document
        if document is None or not document.is_written:
            return None
        stamp = document.last_stamp
        return {
            "by": stamp.node,
            "at_ms": stamp.wall_ms,
            "version": document.version,
            "arrivals": [
                {"node": name, "has": known.status.get("version") == document.version, "lag_s": _lag(known.status)}
                for name, known in sorted(self._nodes.items())
                if name != stamp.node
            ],
        }


_SHOWN: Final = (
    "host", "pid", "role", "connected", "broker", "version", "origin", "age_s", "expires_s", "expired", "keys",
    "ahead_s", "lag_s", "lag_from", "release", "uptime_s",
)  # fmt: skip


def _state(status: Mapping[str, Any]) -> str:
    """The state of the node's chart; for a release that does not report it, inferred from the answer."""
    said = _text(status.get("state")).replace("in step", "in_sync")
    return said or ("in_sync" if status.get("connected") else "joining")


def _lag(status: Mapping[str, Any]) -> float | None:
    lag_s = status.get("lag_s")
    return float(lag_s) if isinstance(lag_s, (int, float)) else None


def _text(value: object) -> str:
    return value[: limits.HOST_TEXT_BYTES] if isinstance(value, str) else ""


def _shown(value: Any) -> str:
    """A value as JSON on one line of bounded length, without user names and passwords in URLs."""
    text = without_logins(strict_json.dumps(value).decode())
    return text if len(text) <= limits.VIEW_VALUE_CHARACTERS else text[: limits.VIEW_VALUE_CHARACTERS] + "…"
