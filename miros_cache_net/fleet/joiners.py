"""Joining hosts that asked everybody: one digest that names their ids answers all of them."""

from __future__ import annotations

import random
from collections.abc import Iterable

from miros_cache_net import limits


class Joiners:
    """Whom this host is to answer unless another does it first.  Belongs to one thread."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._ids: dict[str, None] = {}

    def asked(self, message_id: str, in_sync: bool) -> float | None:
        """A joining host has said its digest; seconds until `take` is to be called, None if that is on its way.

        Who is not in step itself leaves it to those who are; if there are none, joining hosts answer each other.
        """
        first = not self._ids
        if len(self._ids) < limits.JOINERS_ANSWERED:
            self._ids[message_id] = None
        wait_s = 0.0 if in_sync else 2 * limits.JOIN_DIGEST_S
        return wait_s + self._rng.uniform(0, limits.JOIN_DIGEST_S) if first else None

    def answered(self, ids: Iterable[str]) -> None:
        """Another host that agrees with this one has answered these."""
        for each in ids:
            self._ids.pop(each, None)

    def take(self) -> tuple[str, ...]:
        """The ids that are still to be answered."""
        ids = tuple(self._ids)
        self._ids.clear()
        return ids
