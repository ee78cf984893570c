"""The fleet's lease to discover, held by a host's bridge for whichever of its processes has the discovery lock.

The bridge knows that a discovery is over, or that its process died, from the kernel: it waits for the same lock.
All methods are called by the bridge's owner's thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final, Protocol

from miros_cache_net.errors import StoreError
from miros_cache_net.host.questions import Answer, Question
from miros_cache_net.store.kernel_lock import KernelLock

#: How long the lease is kept after a discovery: its result is still under way to the hosts that wait for it, and one
#: that got the lease sooner would discover once more.
RESULT_UNDER_WAY_S: Final = 1.0
LEASE_TIMER: Final = "lease"


class LeasePort(Protocol):
    """What this needs of the bridge."""

    def acquire_lease(self, done: Callable[[bool], None]) -> None: ...

    def release_lease(self) -> None: ...

    def after(self, name: str, delay_s: float) -> None:
        """Have `FleetLease.timer` called in so many seconds."""

    def lease_event(self, name: str, held: bool) -> None:
        """Have `FleetLease.answered` or `FleetLease.discovery_over` called soon; from any thread."""


class FleetLease:
    """One host's part in discovering once a fleet.  Who asks holds the host's discovery lock already.

    The words (turn, discovery lock, lease) are those of `single_flight`.  Nothing is asked of the broker before this
    host is in step: the fleet may have what somebody is about to discover.
    """

    def __init__(self, port: LeasePort, lock_path: str) -> None:
        self._port = port
        self._lock = KernelLock(lock_path)
        self._linked = self._in_step = False
        self._held = False
        self._watching = False
        self._waiting: list[Question] = []

    def ask(self, question: Question) -> None:
        """Answer True (go on), False (another host does), or with an error where there is no fleet to ask."""
        if not self._linked:
            question.done(Answer(None, "this host has no link to the fleet"))
        elif self._held:
            self._watch()
            question.done(Answer(True))
        else:
            self._waiting.append(question)
            if len(self._waiting) == 1 and self._in_step:
                self._acquire()

    def answered(self, held: bool) -> None:
        """The broker has said whether the lease is ours."""
        self._held = held and self._linked
        self._tell(Answer(self._held))
        if self._held:
            self._watch()

    def discovery_over(self) -> None:
        """No process of this host has the discovery lock any more."""
        self._watching = False
        with contextlib.suppress(OSError, StoreError):
            self._lock.try_lock()
            self._lock.unlock()
        if self._held:
            self._port.after(LEASE_TIMER, RESULT_UNDER_WAY_S)

    def timer(self) -> None:
        """What the last discovery has found has had its time to reach the other hosts."""
        if self._held and not self._watching:
            self._held = False
            self._port.release_lease()

    def link_up(self) -> None:
        self._linked = True

    def in_step(self) -> None:
        """This host has what the fleet has, over the link that is up, or just coming up."""
        was_in_step, self._in_step = self._in_step, True
        if self._waiting and not was_in_step:
            self._acquire()

    def link_down(self) -> None:
        """The lease has died with the connection; the discovery goes on, its stamp keeps it from doing harm."""
        self._linked = self._in_step = self._held = False
        self._tell(Answer(None, "this host has lost its link to the fleet"))

    def close(self) -> None:
        self._lock.close()

    def _acquire(self) -> None:
        self._port.acquire_lease(lambda held: self._port.lease_event("answered", held))

    def _watch(self) -> None:
        if self._watching:
            return
        self._watching = True
        try:
            self._lock.await_grant(lambda: self._port.lease_event("discovery_over", False))
        except (OSError, StoreError):
            self.discovery_over()  # nobody could hold a lock that cannot be opened

    def _tell(self, answer: Answer) -> None:
        waiting, self._waiting = self._waiting, []
        for question in waiting:
            question.done(answer)
