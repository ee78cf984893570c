"""What `top` knows of the fleet: asked every few seconds, and at once when a change is heard."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from miros_cache_net.cli.cache_file import count_text
from miros_cache_net.cli.checks.finding import OK, Finding, failed, failed_by
from miros_cache_net.cli.checks.fleet_checks import compared, in_another_key, refusing
from miros_cache_net.cli.describe import key_difference
from miros_cache_net.cli.node_text import name_text
from miros_cache_net.document.value import Document
from miros_cache_net.errors import BrokerUnreachable, DocumentError
from miros_cache_net.fleet.fleet_client import FleetClient
from miros_cache_net.node_status import NodeStatus
from miros_cache_net.wire.envelope import Message

#: Changes that are kept for the screen.
_CHANGES: Final = 100
#: Nodes that are remembered, also once they are silent: more than a screen can show.
_NODES: Final = 1_000
#: A node that has missed one question may be busy; after two it is silent.
_SILENT_TIMES: Final = 2
#: Answers come within half a second; this is for a busy host.
_ANSWERS_S: Final = 2.0


@dataclass
class Change:
    """A change of the document: when it was heard here, who sent it, and which keys it concerns."""

    at_s: float
    node: str
    what: str


@dataclass
class Row:
    """A node's last status, and how many questions it has left unanswered since."""

    status: NodeStatus
    heard_s: float
    missed: int = 0

    @property
    def is_silent(self) -> bool:
        return self.missed >= _SILENT_TIMES


@dataclass
class Picture:
    """The fleet at one moment, for the screen; not changed any more."""

    rows: list[Row] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    wrong: list[Finding] = field(default_factory=list)
    asked: bool = False


class WatchedFleet:
    """Asks on the thread that calls `ask_for_ever` or `ask`; `picture` may be called on any."""

    def __init__(self, client: FleetClient) -> None:
        self._client = client
        client.on_change = self._changed
        self._guard = threading.Lock()
        self._rows: dict[str, Row] = {}
        self._before: list[NodeStatus] = []
        self._first: dict[str, int] = {}
        self._changes: deque[Change] = deque(maxlen=_CHANGES)
        self._document: Document | None = None
        self._link: BrokerUnreachable | None = None
        self._asked = False
        self._wanted: tuple[str, str] | None = None
        self._documents: dict[str, Document] | None = None

    def ask_for_ever(self, every_s: float, over: threading.Event) -> None:
        """Ask until `over` is set."""
        while not over.is_set():
            self.ask()
            deadline_s = time.monotonic() + every_s
            while not over.is_set() and not self._wanted and (left_s := deadline_s - time.monotonic()) > 0:
                if self._client.listen(min(0.2, left_s)):
                    break  # every node's lag and document are news now

    def ask(self) -> None:
        """Ask every node once, and for the two documents that `want` named."""
        try:
            nodes, link = self._client.fleet.statuses(_ANSWERS_S), None
        except BrokerUnreachable as error:
            nodes, link = [], error
        wanted = self._wanted
        documents = None if wanted is None else self._client.documents(set(wanted), _ANSWERS_S)
        with self._guard:
            self._asked, self._link = True, link
            self._take(nodes)
            if wanted is not None:
                self._wanted, self._documents = None, documents

    def want(self, one: str, other: str) -> None:
        """Have the documents of two nodes fetched; `documents` returns them soon."""
        with self._guard:
            self._wanted, self._documents = (one, other), None

    def documents(self) -> dict[str, Document] | None:
        """What `want` asked for, by node; None until it is there."""
        with self._guard:
            return self._documents

    def picture(self) -> Picture:
        """What is known now."""
        with self._guard:
            rows = [Row(each.status, each.heard_s, each.missed) for _, each in sorted(self._rows.items())]
            return Picture(rows, list(self._changes)[::-1], list(self._wrong()), self._asked)

    # --- helpers, under the lock ----------------------------------------------------------------------

    def _take(self, nodes: list[NodeStatus]) -> None:
        now_s = time.monotonic()
        self._before = [row.status for row in self._rows.values() if not row.is_silent]
        for row in self._rows.values():
            row.missed += 1
        for status in nodes:
            if status["node"] in self._rows or len(self._rows) < _NODES:
                self._rows[status["node"]] = Row(status, now_s)
                self._first.setdefault(status["node"], in_another_key(status))

    def _wrong(self) -> list[Finding]:
        if self._link is not None:
            return [failed_by("broker", self._link)]
        now_s = time.monotonic()
        found = [
            failed("silent", f"{name_text(row.status)} has not answered for {now_s - row.heard_s:.0f} s")
            for row in self._rows.values()
            if row.is_silent
        ]
        nodes = [row.status for row in self._rows.values() if not row.is_silent]
        if nodes:
            found += [finding for finding in compared(self._before, nodes) if finding.outcome != OK]
        newly = {name_text(node): in_another_key(node) - self._first.get(node["node"], 0) for node in nodes}
        return found + refusing(newly, "`top` began")

    def _changed(self, message: Message) -> None:
        """A node has sent a change."""
        try:
            document = Document.from_json(message.body)
        except DocumentError:
            return
        before, self._document = self._document, document
        contents: Mapping[str, Any] = document.contents
        what = count_text(len(contents), "key") if before is None else key_difference(before.contents, contents)
        with self._guard:
            self._changes.append(Change(time.time(), message.origin.node, what))
