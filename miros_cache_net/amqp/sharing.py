"""Assigns this process's links to threads, so that links share connections where they may."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Hashable

from miros_cache_net.amqp.link_thread import LinkThread
from miros_cache_net.amqp.topology import Topology


class Sharing:
    """Thread-safe.  A link thread without links is ending and is never reused."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Reset after fork: a child has none of its parent's threads, and may have inherited a held lock."""
        self._lock = threading.Lock()
        self._carried: dict[LinkThread, tuple[Hashable, list[Topology]]] = {}

    def join(self, key: Hashable, topology: Topology, make: Callable[[], LinkThread]) -> LinkThread:
        """The thread of `key`; started by `make` if there is none.

        A thread carries a topology with a lease only once: the lease is an exclusive queue, which belongs to a
        connection, so two links on one connection would both hold it.  Raises `OSError` if the system denies a thread.
        """
        with self._lock:
            for thread, (its_key, carried) in self._carried.items():
                if its_key == key and not (topology.lease and topology in carried):
                    carried.append(topology)
                    return thread
            thread = make()
            try:
                thread.start()
            except RuntimeError as error:
                thread.services.loop.close()
                raise OSError(errno.EAGAIN, str(error)) from None
            self._carried[thread] = (key, [topology])
            return thread

    def leave(self, thread: LinkThread, topology: Topology) -> bool:
        """Remove one link; True if it was the thread's last."""
        with self._lock:
            _, carried = self._carried.get(thread, (None, [topology]))
            carried.remove(topology)
            if not carried:
                self._carried.pop(thread, None)
            return not carried


of_this_process = Sharing()
os.register_at_fork(after_in_child=of_this_process.forget)
