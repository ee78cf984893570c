"""Which of this host's requests may still be answered: an answer counts only for a request whose id it carries."""

from __future__ import annotations

from typing import TypeVar

from miros_cache_net import limits

T = TypeVar("T")


class OpenRequests:
    """The ids of requests that were sent over the present link, each with what its asker wants to know again.

    Belongs to one thread.  At most `limits.OPEN_REQUESTS`: a further one takes the place of the oldest.
    """

    def __init__(self) -> None:
        self._open: dict[str, object] = {}

    def add(self, message_id: str, about: object) -> None:
        """`message_id`: of what was sent; "" (it could not be sent) is passed over."""
        if not message_id:
            return
        if len(self._open) >= limits.OPEN_REQUESTS:
            del self._open[next(iter(self._open))]
        self._open[message_id] = about

    def about(self, message_id: str, kind: type[T]) -> T | None:
        """What was noted with this id, if it is open and that is a `kind`; it stays open."""
        about = self._open.get(message_id)
        return about if isinstance(about, kind) else None

    def close(self, message_id: str) -> None:
        """It is answered, or nobody wants the answer any more."""
        self._open.pop(message_id, None)

    def clear(self) -> None:
        """The link is lost, and the answers with it."""
        self._open.clear()
