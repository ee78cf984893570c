"""A replica behind a port that only writes down what is asked of it."""

from __future__ import annotations

import random
from typing import Any

from miros_cache_net import limits
from miros_cache_net.document.value import Document, Stamp
from miros_cache_net.errors import Reason
from miros_cache_net.fleet.open_requests import OpenRequests
from miros_cache_net.fleet.replica import Replica
from miros_cache_net.observe.registry import Counter
from miros_cache_net.testing import ManualClock
from miros_cache_net.wire.envelope import Message, Origin

NOTHING = Document.unwritten({})


class Port:
    def __init__(self) -> None:
        self.sent: list[tuple[str, Any, str]] = []
        self.ids: list[str] = []
        self.answered: list[str] = []
        self.merged: list[Document] = []
        self.serving = False
        self.timers: dict[str, float] = {}
        self.reports: list[Reason] = []
        self.unsendable: list[Any] = []

    def send(self, kind: str, body: Any, to: str, answers: str = "") -> str:
        if body in self.unsendable:
            return ""
        self.sent.append((kind, body, to))
        self.ids.append(f"id-{len(self.ids)}")
        self.answered.append(answers)
        return self.ids[-1]

    def merge(self, document: Document, node: str) -> None:
        self.merged.append(document)

    def serve(self, serving: bool) -> None:
        self.serving = serving

    def after(self, name: str, delay_s: float) -> None:
        self.timers[name] = delay_s

    def report(self, reason: Reason, message: str) -> None:
        self.reports.append(reason)

    def sent_kinds(self) -> list[tuple[str, str]]:
        return [(kind, to) for kind, _, to in self.sent]


def replica(
    port: Port, clock: ManualClock, document: Document = NOTHING, answers_refused: Counter | None = None
) -> Replica:
    return Replica(
        port,
        document,
        clock,
        OpenRequests(),
        answer_timeout_s=1.0,
        digest_interval_s=30.0,
        rng=random.Random(1),
        answers_refused=answers_refused or Counter(),
    )


def written(clock: ManualClock, contents: dict[str, Any], ahead_ms: int = 0, node: str = "beta") -> Document:
    now_ms = clock.wall_ms() + ahead_ms
    return NOTHING.written(contents, Stamp(now_ms, 0, node), now_ms)


def message(kind: str, body: Any = None, node: str = "beta", answers: str = "", sent_ms: int = 0) -> Message:
    return Message(kind, "fleet", "c.json", "their-id", Origin(node, node, "boot", 1), sent_ms, body, answers)


def answer(port: Port, document: Document, answers: str | None = None) -> Message:
    """To the last message of all that was sent, unless another is named."""
    return message("answer", document.to_json(), answers=port.ids[-1] if answers is None else answers)


def unchanged(port: Port, version: Any, answers: str | None = None) -> Message:
    return message("unchanged", {"version": version}, answers=port.ids[-1] if answers is None else answers)


def digest(document: Document, **more: Any) -> dict[str, Any]:
    newest = max(document.last_stamp, document.floor.stamp)
    return {"version": document.version if document.is_written else "", "newest": str(newest), **more}


def in_sync(
    port: Port, clock: ManualClock, document: Document = NOTHING, answers_refused: Counter | None = None
) -> Replica:
    host = replica(port, clock, document, answers_refused)
    join(host)
    port.sent.clear()
    return host


def join(host: Replica) -> None:
    """There is nobody else."""
    host.link_up(request_servers=0)
    for _ in range(limits.JOIN_ATTEMPTS):
        host.timers[Replica.ANSWER_TIMER]()
