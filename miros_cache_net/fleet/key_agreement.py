"""Does this host hold a key of its fleet at all?"""

from __future__ import annotations

import math
from collections.abc import Callable

from miros_cache_net.clock import Clock


class KeyAgreement:
    """Tells when this host is locked out: what comes cannot be opened, and nothing that could has come for long.

    Anybody who reaches the broker can send what no key opens; that locks nobody out who hears others of the fleet.

    patience_s  in a fleet in order something comes in that time
    locked_out  called once, until something can be opened or the link is new
    let_in      called with the first message afterwards that can be opened

    All methods are called by the link's thread.
    """

    def __init__(
        self, clock: Clock, patience_s: float, locked_out: Callable[[], None], let_in: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._patience_s = patience_s
        self._locked_out, self._let_in = locked_out, let_in
        self._is_locked_out = False
        self._opened_at_s = -math.inf

    def link_up(self, alone: bool) -> None:
        """Nothing has been heard over this link; `alone`: there is nobody either whose answer could be expected."""
        self._is_locked_out = False
        self._opened_at_s = self._clock.monotonic_s() if alone else -math.inf

    def opened(self) -> None:
        """A message of another node could be opened."""
        self._opened_at_s = self._clock.monotonic_s()
        if self._is_locked_out:
            self._is_locked_out = False
            self._let_in()

    def refused(self) -> None:
        """A message is of a key that this host does not hold."""
        deaf_s = self._clock.monotonic_s() - self._opened_at_s
        if not self._is_locked_out and deaf_s > self._patience_s:
            self._is_locked_out = True
            self._locked_out()
