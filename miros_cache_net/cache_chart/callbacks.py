"""Ordinary functions as callbacks for a document's changes."""

from __future__ import annotations

from collections.abc import Callable

from miros_cache_net.payloads import CacheReadPayload
from miros_cache_net.statechart.listener import Listener


def change_listener(
    signal_name: str, file_path: str, present: Callable[[], str], callback: Callable[[CacheReadPayload], object]
) -> Listener:
    """A chart that calls `callback` for each state of the file that differs from the one before.

    signal_name  the signal with which the file's chart publishes its states
    present      returns the file's current version; called once, after the subscription, so that no state is missed
    """
    told: list[str] = []

    def tell(payload: CacheReadPayload) -> None:
        if payload.file_path == file_path and payload.version != told[0]:
            told[0] = payload.version
            callback(payload)

    listener = Listener({signal_name: tell}, "changes", start=False)
    told.append(present())
    listener.start_at()
    return listener
