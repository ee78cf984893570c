"""A node's status in words, the same in `status`, `top` and `doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from miros_cache_net.cli.output import duration_text
from miros_cache_net.node_status import NodeStatus

#: Counters that a user should see; ``--json`` prints all.
_TROUBLES: Final = (
    "refused_",
    "reported_",
    "links_failed",
    "sendings_lost",
    "answers_refused",
    "received_dropped",
    "followers_dropped",
)
#: A clock is said to differ only by more than an answer may take to arrive on a busy machine.
CLOCK_NOISE_S: Final = 5.0


def name_text(node: NodeStatus) -> str:
    return node["node"] or "?"


def state_text(node: NodeStatus) -> str:
    """The state of its chart; of an older release, which does not tell it, whether it is in step."""
    return node["state"] or ("in step" if node["connected"] else "out of step")


def document_text(node: NodeStatus) -> str:
    return short_version(node["version"])


def age_text(node: NodeStatus) -> str:
    return "" if node["age_s"] is None else duration_text(node["age_s"])


def expiry_text(node: NodeStatus) -> str:
    """For example ``in 57 min``, ``3 min ago``, ``never``; "" if there is nothing to expire."""
    if node["expires_s"] is not None:
        left_s = node["expires_s"]
        return f"{duration_text(-left_s)} ago" if node["expired"] and left_s <= 0 else f"in {duration_text(left_s)}"
    return "" if node["age_s"] is None else "never"


def clock_text(node: NodeStatus) -> str:
    """How far its clock is from this machine's, "" if that is not worth telling."""
    ahead_s = node["ahead_s"]
    return "" if ahead_s is None or abs(ahead_s) < CLOCK_NOISE_S else f"{ahead_s:+.0f} s"


def lag_text(node: NodeStatus, nodes: Sequence[NodeStatus]) -> str:
    """How long its last change was under way, less what the two clocks differ by as far as that is known."""
    if node["lag_s"] is None:
        return ""
    ahead_s = {each["node"]: each["ahead_s"] or 0.0 for each in nodes}
    lag_s = node["lag_s"] - (node["ahead_s"] or 0.0) + ahead_s.get(node["lag_from"], 0.0)
    return f"{max(0.0, lag_s) * 1000:.0f} ms" if lag_s < 1 else duration_text(lag_s)


def uptime_text(node: NodeStatus) -> str:
    return "" if node["uptime_s"] is None else duration_text(node["uptime_s"])


def counted_text(node: NodeStatus) -> str:
    """What it has refused, lost or reported since it started."""
    counted = node["counters"].items()
    return ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in counted if number and _is_trouble(name))


def short_version(version: str) -> str:
    return version[:8] or "none"


def _is_trouble(counter: str) -> bool:
    return counter.startswith(_TROUBLES)
