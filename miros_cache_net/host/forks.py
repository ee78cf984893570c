"""Descriptors that a forked child must not keep: the host's lock and connections would outlive their owner."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Final, Protocol

#: Held while a descriptor is opened and registered here, so that no fork happens in between.
opening: Final = threading.RLock()


class Forkable(Protocol):
    """An object with descriptors of its own."""

    def close_in_child(self) -> None:
        """In a forked child: close them, without any effect on the parent."""


_alive: weakref.WeakSet[Forkable] = weakref.WeakSet()


def remember(owner: Forkable) -> None:
    """Have `owner.close_in_child` called in every forked child, as long as `owner` exists."""
    _alive.add(owner)


def _after_fork() -> None:
    opening.release()
    for owner in list(_alive):
        owner.close_in_child()


os.register_at_fork(before=opening.acquire, after_in_parent=opening.release, after_in_child=_after_fork)
