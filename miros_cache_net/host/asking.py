"""Questions to the fleet that wait for the answer, through any object that can ask them."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from miros_cache_net.document.value import Document
from miros_cache_net.errors import BrokerUnreachable, DocumentError
from miros_cache_net.host.messages import LEASE, READ, STATUSES
from miros_cache_net.host.questions import Answer, Question
from miros_cache_net.node_status import NodeStatus, status_from

#: How long an answer may take to travel within this host.
_UNDER_WAY_S: Final = 0.5


class Asking:
    """The one way to ask the fleet, for any program on a host.  As thread-safe as `ask` is.

    ask  has a question answered, at once or later: by the bridge of this host (`CacheNode`, whether bridge or
         follower; `stranger` for a program that is neither), or over a separate link (`FleetClient`).  A handler of
         that object must not wait for the answer.
    """

    def __init__(self, ask: Callable[[Question], None]) -> None:
        self._ask = ask

    def document(self, timeout_s: float = 3.0) -> Document | None:
        """The document of the host that answers first; None if none answers, or if it was never written.

        Raises `BrokerUnreachable`.
        """
        body = self._answer(READ, timeout_s)
        try:
            document = None if body is None else Document.from_json(body)
        except DocumentError:
            return None
        return document if document is not None and document.is_written else None

    def statuses(self, timeout_s: float = 2.0) -> list[NodeStatus]:
        """The statuses of all hosts' bridges, sorted by name.  Raises `BrokerUnreachable`."""
        body = self._answer(STATUSES, timeout_s)
        found = [status_from(each) for each in body if isinstance(each, Mapping)] if isinstance(body, list) else []
        return sorted(found, key=lambda status: status["node"])

    def may_discover(self, timeout_s: float) -> bool:
        """May this host discover now?  True too if there is no answer."""
        try:
            return self._answer(LEASE, timeout_s) is not False
        except BrokerUnreachable:
            return True

    def lease(self, timeout_s: float, done: Callable[[bool], None]) -> None:
        """As `may_discover`, without waiting: `done` gets the answer, or is not called if the bridge is too late."""
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
