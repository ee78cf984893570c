"""What a program wants to know of the fleet, asked by way of its node and waited for."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from miros_cache_net.document.value import Document
from miros_cache_net.errors import BrokerUnreachable, DocumentError
from miros_cache_net.host.messages import LEASE, READ, STATUSES
from miros_cache_net.host.questions import Answer, Question

#: How long an answer may be under way within this host.
_UNDER_WAY_S: Final = 0.5


class Asking:
    """Thread-safe.  `ask` hands a question to the node's chart; whoever waits must not be one of its handlers."""

    def __init__(self, ask: Callable[[Question], None]) -> None:
        self._ask = ask

    def document(self, timeout_s: float) -> Document | None:
        """Of whichever other host answers first; None if nobody does, or nobody has written it.

        Raises `BrokerUnreachable`.
        """
        body = self._answer(READ, timeout_s)
        try:
            document = None if body is None else Document.from_json(body)
        except DocumentError:
            return None
        return document if document is not None and document.is_written else None

    def statuses(self, timeout_s: float) -> list[dict[str, Any]]:
        """Of every host's bridge, by name.  Raises `BrokerUnreachable`."""
        body = self._answer(STATUSES, timeout_s)
        found = [dict(each) for each in body if isinstance(each, Mapping)] if isinstance(body, list) else []
        return sorted(found, key=lambda status: str(status.get("node")))

    def lease(self, timeout_s: float, done: Callable[[bool], None]) -> None:
        """Have `done` called with whether this host may discover now; waits for nothing.

        True also where there is no fleet to ask; not at all where the bridge does not answer in time.
        """
        deadline_s = time.monotonic() + timeout_s
        self._ask(Question(LEASE, deadline_s, lambda answer: done(answer.value is not False)))

    def _answer(self, what: str, timeout_s: float) -> Any:
        answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._ask(Question(what, time.monotonic() + timeout_s, answers.put))
        try:
            answer = answers.get(timeout=timeout_s + _UNDER_WAY_S)
        except queue.Empty:
            raise BrokerUnreachable(
                f"the bridge of this host has not answered within {timeout_s:g} s: is its process stopped?"
            ) from None
        if answer.error:
            raise BrokerUnreachable(answer.error)
        return answer.value
