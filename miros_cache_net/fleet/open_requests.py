"""This host's open requests: an answer counts only if it carries the id of one."""

from __future__ import annotations

from typing import TypeVar

from miros_cache_net import limits

T = TypeVar("T")


class OpenRequests:
    """Ids of the requests sent over the current link, each with a note from its sender.

    Not thread-safe.  Holds at most `limits.OPEN_REQUESTS`; one more evicts the oldest.
    """

    def __init__(self) -> None:
        self._open: dict[str, object] = {}

    def add(self, message_id: str, about: object) -> None:
        """Note a request; an empty `message_id` (it could not be sent) is ignored."""
        if not message_id:
            return
        if len(self._open) >= limits.OPEN_REQUESTS:
            del self._open[next(iter(self._open))]
        self._open[message_id] = about

    def about(self, message_id: str, kind: type[T]) -> T | None:
        """The note of an open request if it is a `kind`, else None; the request stays open."""
        about = self._open.get(message_id)
        return about if isinstance(about, kind) else None

    def close(self, message_id: str) -> None:
        """The request is answered, or its answer no longer wanted."""
        self._open.pop(message_id, None)

    def clear(self) -> None:
        """The link is lost, and the answers with it."""
        self._open.clear()
