"""Descriptors that a forked child must not keep: it would hold the host's lock and connections beyond their owner."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Final, Protocol

#: Held while a descriptor is opened and made known here, so that no fork comes in between.
opening: Final = threading.RLock()


class Forkable(Protocol):
    """Something with descriptors of its own."""

    def close_in_child(self) -> None:
        """In a forked child: close them, and do nothing that the parent would notice."""


_alive: weakref.WeakSet[Forkable] = weakref.WeakSet()


def remember(owner: Forkable) -> None:
    """Have `owner` asked in every forked child, for as long as it exists."""
    _alive.add(owner)


def _after_fork() -> None:
    opening.release()
    for owner in list(_alive):
        owner.close_in_child()


os.register_at_fork(before=opening.acquire, after_in_parent=opening.release, after_in_child=_after_fork)
