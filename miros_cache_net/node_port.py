"""The node as seen by the fleet's objects: implements `BridgeOwner` and `HostOwner`.

Separate from `CacheNode`, so that these methods are not in a node's public interface.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from miros_cache_net import limits
from miros_cache_net.cache_chart.chart import CacheFileChart
from miros_cache_net.document.value import Document
from miros_cache_net.errors import CacheNetError, Reason
from miros_cache_net.events import CACHE_FILE_WRITE, event
from miros_cache_net.fleet.health import CANARY, IN_STEP, LINK
from miros_cache_net.fleet.node_events import HEALTH_ASKED, MERGE_REFUSED, MESH_DUE
from miros_cache_net.host.messages import HEALTH
from miros_cache_net.host.questions import Answer, Question
from miros_cache_net.node_status import NodeStatus
from miros_cache_net.observe.steps import Step
from miros_cache_net.store.changes import AddressedChange, Change, Merge
from miros_cache_net.store.disk_look import DiskLook

if TYPE_CHECKING:
    from miros_cache_net.node import CacheNode


class NodePort:
    """Posts the fleet's private events to the node, and gives access to its file.  Thread-safe.

    file_chart  returns the node's file chart; blocks until it has been made
    disk        where its file is
    """

    def __init__(self, node: CacheNode, file_chart: Callable[[], CacheFileChart], disk: DiskLook) -> None:
        self._node, self._file_chart, self._disk = node, file_chart, disk

    def bridge_event(self, name: str, payload: Any = None) -> None:
        # post_always: a flood of CACHE in this process must not push out the node's own events
        self._node.post_always(event(name, payload))

    def bridge_event_later(self, name: str, payload: Any, delay_s: float) -> Callable[[], None]:
        timer = self._node.post_later(event(name, payload), delay_s, always=True)
        return timer.cancel

    def merge(self, document: Document, node: str) -> None:
        def refused(_error: Exception) -> None:
            self.bridge_event(MERGE_REFUSED, (document, node))

        file_chart = self._file_chart()
        change = AddressedChange(Merge(document, refused), file_chart.file_path)
        file_chart.post_fifo(event(CACHE_FILE_WRITE, change))

    def write(self, change: Change, over: Callable[[Exception | None], None]) -> None:
        file_chart = self._file_chart()
        # post_always: a flood must not push it out, because somebody waits for its end
        file_chart.post_always(event(CACHE_FILE_WRITE, AddressedChange(change, file_chart.file_path, over)))

    def held(self) -> Document | None:
        try:
            return self._file_chart().document()
        except CacheNetError:
            return None  # the file chart reports it and recovers

    def mesh_event(self, name: str, payload: Any = None) -> None:
        self.bridge_event(MESH_DUE, (name, payload))

    def mesh_event_later(self, name: str, payload: Any, delay_s: float) -> Callable[[], None]:
        return self.bridge_event_later(MESH_DUE, (name, payload), delay_s)

    def report(self, reason: Reason, message: str) -> None:
        self._node.report(reason, message)

    def followers_did(self, steps: Iterable[Step]) -> None:
        self._node._followers_did(steps)

    def status(self) -> NodeStatus:
        return self._node.status()

    def health(self) -> str:
        """Why the node is not healthy, "" if it is; blocks.  Raises `TimeoutError` if its thread does not answer."""
        answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        deadline_s = time.monotonic() + limits.METRICS_HEALTH_S
        self.bridge_event(HEALTH_ASKED, Question(HEALTH, deadline_s, answers.put))
        try:
            checks = answers.get(timeout=limits.METRICS_HEALTH_S).value["checks"]
        except queue.Empty:
            raise TimeoutError("the node's thread does not answer") from None
        failed = {check["name"]: check["detail"] for check in checks if not check["ok"]}
        if LINK in failed:  # without a link these two must fail too
            failed = {name: detail for name, detail in failed.items() if name not in (CANARY, IN_STEP)}
        return "; ".join(failed.values())

    def look_at_disk(self, done: Callable[[], None]) -> None:
        self._disk.tell(lambda _trouble: done())
