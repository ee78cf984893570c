"""Watches the fleet while a page is open, and passes on what it sees."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from miros_cache_net import limits
from miros_cache_net.clock import SYSTEM_CLOCK
from miros_cache_net.errors import CacheNetError
from miros_cache_net.fleet.fleet_client import FleetClient
from miros_cache_net.fleet.place import place_of
from miros_cache_net.fleet.trace_watch import InOrder, TraceAnswer
from miros_cache_net.node_status import NodeStatus
from miros_cache_net.settings import Settings
from miros_cache_net.view.diagram.model import Diagram
from miros_cache_net.view.fleet_memory import FleetMemory, Json

#: The time between two questions to all nodes.
_LOOK_EVERY_S: Final = 1.0
#: How long nodes may take to answer.
_ANSWER_S: Final = 1.0
#: How long the link stays up after the last page has closed, because a reload closes and reopens a page.
_LINGER_S: Final = 5.0
_AGAIN_S: Final = 2.0
_EVERYTHING: Final = {"nodes": [], "charts": [], "spy": False, "payloads": False}


class Watcher:
    """Two threads that ask the fleet, each with its own link, while a page is open.  They write nothing.

    seen  called on one of them with each picture of the fleet and all plots
    """

    def __init__(
        self, settings: Settings, file_path: Path, seen: Callable[[Json, list[tuple[int, Json]]], None]
    ) -> None:  # fmt: skip
        self._settings, self._file_path, self._seen = settings, file_path, seen
        place = place_of(settings, file_path)
        self._memory = FleetMemory(place.scope, place.document)
        self._wanted = threading.Condition()
        self._audience = 0
        self._over = False
        self._answers: queue.SimpleQueue[TraceAnswer] = queue.SimpleQueue()
        self._order = InOrder()
        self._threads = [
            threading.Thread(target=self._run, args=(look,), name=name, daemon=True)
            for name, look in (("view of the fleet", self._look_while_wanted), ("view of its traces", self._trace))
        ]

    def start(self) -> None:
        """Start the threads; they ask the fleet once a page is open."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads and their links."""
        with self._wanted:
            self._over = True
            self._wanted.notify_all()
        for thread in self._threads:
            thread.join()

    def enter(self) -> None:
        """A page was opened; from any thread."""
        self._count(1)

    def leave(self) -> None:
        """A page was closed; from any thread."""
        self._count(-1)

    def _count(self, number: int) -> None:
        with self._wanted:
            self._audience += number
            self._wanted.notify_all()

    def statuses(self) -> list[NodeStatus]:
        """Ask all nodes once, over a separate link; from any thread.  Raises `BrokerError`."""
        with FleetClient(self._settings, self._file_path) as client:
            return client.fleet.statuses(_ANSWER_S)

    def diagram(self, node: str, process: int, name: str) -> Diagram | None:
        """A user's chart, inferred from its steps; from any thread."""
        return self._memory.charts.diagram(node, process, name)

    # --- the threads --------------------------------------------------------------------------------------------------

    def _run(self, look: Callable[[FleetClient], None]) -> None:
        while self._wait_for_audience():
            try:
                with FleetClient(self._settings, self._file_path) as client:
                    look(client)
            except (CacheNetError, OSError, RuntimeError) as error:
                # a key file being repaired, or a lack of descriptors: all of it may be over soon
                if look == self._look_while_wanted:
                    self._memory.unlinked(str(error))
                    self._show()
                self._rest(_AGAIN_S)

    def _wait_for_audience(self) -> bool:
        with self._wanted:
            self._wanted.wait_for(lambda: self._over or self._audience)
            return not self._over

    def _look_while_wanted(self, client: FleetClient) -> None:
        wanted_s = time.monotonic()
        while not self._over and time.monotonic() - wanted_s < _LINGER_S:
            if self._audience:
                wanted_s = time.monotonic()
                self._look(client)
            self._rest(_LOOK_EVERY_S)

    def _look(self, client: FleetClient) -> None:
        answers = client.fleet.statuses(_ANSWER_S)
        self._memory.answered(answers, SYSTEM_CLOCK.monotonic_s(), SYSTEM_CLOCK.wall_ms())
        if self._memory.needs_document():
            self._memory.holds(client.fleet.document(_ANSWER_S))
        while not self._answers.empty():
            self._order.put(self._answers.get().steps, time.monotonic())
        self._memory.charts.took(self._order.ripe(time.monotonic()))
        self._show()

    def _trace(self, client: FleetClient) -> None:
        """Receives the steps of all charts, on a separate link, because one thread reads a link's answers."""
        for answer in client.traces(_EVERYTHING, float("inf")):
            if self._over or not self._audience:
                return
            if answer is not None and self._answers.qsize() < limits.TRACE_WAITING:
                self._answers.put(answer)

    def _show(self) -> None:
        self._seen(self._memory.picture(SYSTEM_CLOCK.monotonic_s(), SYSTEM_CLOCK.wall_ms()), self._memory.plots())

    def _rest(self, seconds: float) -> None:
        with self._wanted:
            self._wanted.wait_for(lambda: self._over, seconds)
