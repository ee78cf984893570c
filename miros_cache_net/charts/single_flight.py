"""Whose turn it is to discover: one process of a host, and one host of the fleet.  A plain object for one chart.

Inside a host the turn is a kernel lock, which the kernel takes from a process that dies; among hosts it is the
fleet's lease, which the host's bridge holds for as long as a process of its host has that lock.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from miros_cache_net.errors import StoreError
from miros_cache_net.host.discovery_lock import discovery_lock_path
from miros_cache_net.store.kernel_lock import KernelLock

#: Asks the fleet: answers, on any thread, True (go on) or False (another host discovers), or not at all.
AskFleet = Callable[[Callable[[bool], None]], None]

HOST_TURN: Final = "host_turn"
TURN: Final = "turn"
NO_TURN: Final = "no_turn"


class SingleFlight:
    """Used by one chart's thread, which gets news as private events through `post`, from any thread.

    `begin` is followed by `HOST_TURN` once no other process of this host discovers (look at the document again
    then), `go_on` by `TURN`, or by `NO_TURN` while another host of the fleet does.  `end` in any case.
    """

    def __init__(self, document: Path, post: Callable[[str], None], ask_fleet: AskFleet | None = None) -> None:
        self._lock = KernelLock(discovery_lock_path(document))
        self._post = post
        self._ask_fleet = ask_fleet

    def begin(self) -> None:
        """Queue for the turn on this host; a lock that cannot be had keeps nobody from discovering."""
        try:
            if self._lock.try_lock():
                self._post(HOST_TURN)
            else:
                self._lock.await_grant(lambda: self._post(HOST_TURN))
        except (OSError, StoreError):
            self._post(HOST_TURN)

    def go_on(self) -> None:
        """This host's turn is ours: ask for the fleet's."""
        # without a lock file, as in a directory that is read-only: everybody for himself
        with suppress(OSError, StoreError):
            self._lock.try_lock()
        if self._ask_fleet is None:
            self._post(TURN)
        else:
            self._ask_fleet(lambda granted: self._post(TURN if granted else NO_TURN))

    def end(self) -> None:
        """Let the next one."""
        self._lock.close()
