"""What a node says of itself when it is asked for its status, and the form in which it is taken from others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypedDict, cast

from miros_cache_net import limits

UNLINKED: Final = "unlinked"
JOINING: Final = "joining"
IN_STEP: Final = "in step"
FOLLOWING: Final = "following"


class NodeCheck(TypedDict):
    """One fact about a node; `detail` says what is wrong, or for a link that is up, which broker."""

    name: str
    ok: bool
    detail: str


class NodeStatus(TypedDict):
    """A node's status: a JSON object without secrets.

    node       its name in stamps
    host       the machine's name, and `pid` the process
    role       bridge or follower
    state      of its node chart: unlinked, joining, in step or following
    connected  the host is in step with the fleet, through this process or its bridge
    broker     product, version and address of the broker, "" without a link
    trouble    what is wrong, in one line that says how to fix it; "" if nothing is
    checks     the facts that `health` reports
    scope, document, version  where the document belongs, its name, and a digest of what it holds; "" if unwritten
    origin     the node that wrote it
    age_s      seconds since it was discovered; None if it never was
    expires_s  seconds until it expires, negative once it has; None if it never does
    expired    whether it has expired, by this node's clock
    keys       the ids of its keys, the first encrypts
    clock_ms   its wall clock, in milliseconds since 1970
    ahead_s    how far that is ahead of the asker's clock, as the asker measured it; None if nobody did
    lag_s      from when the last change was sent until this host's file held it, by the two hosts' clocks
    lag_from   the node that sent that change, "" if none came yet
    release    of miros-cache-net, and `format` of its messages
    uptime_s   seconds since it started
    counters   what it has counted, by name
    """

    node: str
    host: str
    pid: int
    role: str
    state: str
    connected: bool
    broker: str
    trouble: str
    checks: list[NodeCheck]
    scope: str
    document: str
    version: str
    origin: str
    age_s: float | None
    expires_s: float | None
    expired: bool
    keys: list[str]
    clock_ms: int
    ahead_s: float | None
    lag_s: float | None
    lag_from: str
    release: str
    format: int
    uptime_s: float | None
    counters: dict[str, int]


def status_from(said: Mapping[str, Any]) -> NodeStatus:
    """The status in what another node said: every field is there and of its type, unknown ones are left out.

    A field that is missing, as from an older release, or malformed becomes "", 0, False, None or empty.  Texts may
    hold any character, so whoever shows them escapes them.
    """
    return cast(NodeStatus, {name: taken(said.get(name)) for name, taken in _FIELDS.items()})


def _text(value: object) -> str:
    return value[: limits.HOST_TEXT_BYTES] if isinstance(value, str) else ""


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else 0


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < limits.LATEST_STAMP_MS:
        return None
    return float(value) if math.isfinite(value) else None


def _truth(value: object) -> bool:
    return value is True


def _texts(value: object) -> list[str]:
    return [_text(each) for each in value[: limits.RING_KEYS]] if isinstance(value, list) else []


def _checks(value: object) -> list[NodeCheck]:
    said = [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
    return [
        NodeCheck(name=_text(each.get("name")), ok=_truth(each.get("ok")), detail=_text(each.get("detail")))
        for each in said[: limits.STATUS_CHECKS]
    ]


def _counters(value: object) -> dict[str, int]:
    counted = list(value.items())[: limits.STATUS_COUNTERS] if isinstance(value, dict) else []
    return {_text(name): _whole(number) for name, number in counted}


_FIELDS: Final[dict[str, Callable[[object], object]]] = {
    **dict.fromkeys(("node", "host"), _text),
    "pid": _whole,
    **dict.fromkeys(("role", "state"), _text),
    "connected": _truth,
    **dict.fromkeys(("broker", "trouble"), _text),
    "checks": _checks,
    **dict.fromkeys(("scope", "document", "version", "origin"), _text),
    **dict.fromkeys(("age_s", "expires_s"), _number),
    "expired": _truth,
    "keys": _texts,
    "clock_ms": _whole,
    **dict.fromkeys(("ahead_s", "lag_s"), _number),
    **dict.fromkeys(("lag_from", "release"), _text),
    "format": _whole,
    "uptime_s": _number,
    "counters": _counters,
}
