"""The fleet's discovery lease, held by a host's bridge on behalf of whichever process has the discovery lock.

The bridge learns from the kernel that a discovery is over, or that its process died: it waits for the same lock.
Call all methods on the bridge owner's thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final, Protocol

from miros_cache_net.errors import StoreError
from miros_cache_net.fleet.node_events import DISCOVERY_OVER, LEASE_ANSWERED
from miros_cache_net.host.questions import Answer, Question
from miros_cache_net.limits import RESULT_TAKEN_S
from miros_cache_net.store.kernel_lock import KernelLock

#: How long the lease is kept after the broker has taken a discovery's result.  The result is still on its way to the
#: waiting hosts, and one that got the lease sooner would discover again.
RESULT_UNDER_WAY_S: Final = 1.0
#: Retry interval when no thread was available to wait for a discovery's end.
WATCH_AGAIN_S: Final = 1.0
#: How long a question waits for the first link: a program often asks just after it has built its node.
FIRST_LINK_S: Final = 2.0
LEASE_TIMER: Final = "lease"
WATCH_TIMER: Final = "discovery watch"
FIRST_LINK_TIMER: Final = "first link"


class LeaseKeeper(Protocol):
    """What the lease needs from the broker; `Link` provides it."""

    def acquire_lease(self, done: Callable[[bool], None]) -> None: ...

    def release_lease(self) -> None: ...


class FleetLease:
    """One host's part in having only one discovery per fleet.  The asking process already holds the discovery lock.

    The terms (turn, discovery lock, lease) are those of `single_flight`.  The broker is not asked before this host is
    in step: the fleet may already have what is about to be discovered.

    after  calls ``timers[name]`` after so many seconds
    post   posts ``lease_answered`` and ``discovery_over`` (see `node_events`); called from any thread
    """

    def __init__(
        self,
        keeper: LeaseKeeper,
        lock_path: str,
        *,
        after: Callable[[str, float], None],
        post: Callable[[str, Any], None],
    ) -> None:
        self._keeper = keeper
        self._lock = KernelLock(lock_path)
        self._after, self._post = after, post
        self._linked = self._in_step = False
        self._is_starting = True
        self._held = False
        self._watching = False
        self._waiting: list[Question] = []
        self.timers: dict[str, Callable[[], None]] = {
            LEASE_TIMER: self._release,
            WATCH_TIMER: self._await_end,
            FIRST_LINK_TIMER: self._no_first_link,
        }
        self.awaits_result = False
        """A discovery is over: call `result_spread` once the fleet has its result, or will not get it."""

    def ask(self, question: Question) -> None:
        """Answer True (go on), False (another host is discovering), or with an error if there is no fleet to ask.

        A question that comes before the first link waits for it, `FIRST_LINK_S` at most.
        """
        if self._is_starting:
            if not self._waiting:
                self._after(FIRST_LINK_TIMER, FIRST_LINK_S)
            self._waiting.append(question)
        elif not self._linked:
            question.done(Answer(None, "this host has no link to the fleet"))
        elif self._held:
            self._watch()
            question.done(Answer(True))
        else:
            self._waiting.append(question)
            if len(self._waiting) == 1 and self._in_step:
                self._acquire()

    def answered(self, held: bool) -> None:
        """The broker has granted or refused the lease."""
        self._held = held and self._linked
        self._tell(Answer(self._held))
        if self._held:
            self._watch()

    def discovery_over(self) -> None:
        """No process of this host holds the discovery lock any more."""
        self._watching = False
        with contextlib.suppress(OSError, StoreError):
            self._lock.try_lock()
            self._lock.unlock()
        self.awaits_result = self._held
        if self._held:
            self._after(LEASE_TIMER, RESULT_TAKEN_S)

    def result_spread(self) -> None:
        """The broker has taken or refused the last discovery's result, if there was one."""
        if self.awaits_result:
            self.awaits_result = False
            self._after(LEASE_TIMER, RESULT_UNDER_WAY_S)

    def link_up(self) -> None:
        self._linked, self._is_starting = True, False

    def in_step(self) -> None:
        """This host is in step with the fleet, over the link that is up or coming up."""
        was_in_step, self._in_step = self._in_step, True
        if self._waiting and not was_in_step:
            self._acquire()

    def link_down(self) -> None:
        """The lease died with the connection.  The discovery goes on; its stamp keeps a late result from doing harm."""
        why = "this host has no link to the fleet" if self._is_starting else "this host has lost its link to the fleet"
        self._linked = self._in_step = self._held = self.awaits_result = self._is_starting = False
        self._tell(Answer(None, why))

    def close(self) -> None:
        self._lock.close()

    def _acquire(self) -> None:
        self._keeper.acquire_lease(lambda held: self._post(LEASE_ANSWERED, held))

    def _watch(self) -> None:
        self.awaits_result = False
        if not self._watching:
            self._watching = True
            self._await_end()

    def _await_end(self) -> None:
        try:
            self._lock.await_grant(lambda: self._post(DISCOVERY_OVER, None))
        except (OSError, StoreError):
            self._post(DISCOVERY_OVER, None)  # no process can hold a lock that cannot be opened
        except RuntimeError:
            # no thread to wait with: assume that the discovery still runs, and retry
            self._after(WATCH_TIMER, WATCH_AGAIN_S)

    def _release(self) -> None:
        """The last discovery's result has had time to reach the other hosts."""
        if self._held and not self._watching:
            self._held = self.awaits_result = False
            self._keeper.release_lease()

    def _no_first_link(self) -> None:
        if self._is_starting:
            self._is_starting = False
            self._tell(Answer(None, "this host has no link to the fleet yet"))

    def _tell(self, answer: Answer) -> None:
        waiting, self._waiting = self._waiting, []
        for question in waiting:
            question.done(answer)
