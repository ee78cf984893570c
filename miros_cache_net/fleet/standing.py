"""Does this host understand any of the others, and does its clock agree with theirs?

What happens to arrive proves little: a stranger's messages are not this host's problem, old ones may be replays, and a
fleet in agreement is almost silent.  So a doubt is settled by asking all hosts, after a delay in which one may speak
anyway: at most one question per quarter of a digest interval, whatever strangers send.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, Protocol

from miros_cache_net import limits
from miros_cache_net.clock import Clock
from miros_cache_net.errors import WireError, WrongVersion
from miros_cache_net.fleet.clock_vote import ClockVote
from miros_cache_net.wire.envelope import Message

DOUBT_TIMER: Final = "doubt"
#: Longest wait before a doubt becomes a question, as a fraction of the digest interval.
_SHARE: Final = 0.25
_OTHER_KEY: Final = (
    "every message from other hosts is encrypted with a key that this host does not have: compare "
    "`miros-cache-net key list` on both, and copy the missing key over"
)
_OTHER_FORMAT: Final = (
    "every message from other hosts is in a format that this release does not read: run the same release of "
    "miros-cache-net on all hosts"
)
#: With this many hosts in agreement, this host's clock is not the wrong one.
_AGREEING: Final = 2


class StandingPort(Protocol):
    """What `Standing` needs from the owner of the link."""

    def ask_all(self) -> str:
        """Ask all hosts in step for their digest; returns the question's message id."""

    def after(self, name: str, delay_s: float) -> None: ...


class Standing:
    """Call all methods on one thread; `takes_doubts` may be used from any.

    takes_doubts  whether a refused message would be news
    """

    def __init__(
        self, port: StandingPort, clock: Clock, *, digest_interval_s: float, answer_timeout_s: float, rng: random.Random
    ) -> None:
        self._port, self._clock, self._rng = port, clock, rng
        self._wait_s, self._answer_s = _SHARE * digest_interval_s, 2 * answer_timeout_s
        self._clocks = ClockVote(clock)
        self._linked = self._understood = self._heard = False
        self._asked = self._about_clock = self._doubting = False
        self._knows_clocks = False
        self._question = self._why = ""
        self.takes_doubts = True
        self.timers: dict[str, Callable[[], None]] = {DOUBT_TIMER: self._next_step}

    @property
    def unheard(self) -> str:
        """Why no other host is understood; "" if one is, or all are silent."""
        return "" if self._understood else self._why

    @property
    def clock_trouble(self) -> str:
        """What is wrong with this host's clock; "" if nothing is, or another host's answer may still settle it."""
        return self._clocks.trouble if self._knows_clocks or not self._clocks.is_tie else ""

    @property
    def question(self) -> str:
        """The id of the last question to all hosts: a message that names it is newer than the question."""
        return self._question

    def link_up(self) -> None:
        self._linked, self._understood, self._why = True, False, ""
        # after suspend the link is new, and the monotonic clock may have stood still
        self._clocks.clear()
        self._knows_clocks = False
        self._rest()

    def link_down(self) -> None:
        """Nothing heard over the old link counts for the next one."""
        self._linked, self._understood, self._why = False, False, ""
        self._rest()

    def refused(self, error: WireError) -> None:
        """A message in an unknown key or format arrived."""
        if self._linked:
            self._why = _OTHER_FORMAT if isinstance(error, WrongVersion) else _OTHER_KEY
            self._doubt()

    def heard(self, message: Message, is_new: bool) -> None:
        """A trusted message from another node; `is_new`: it answers this host, so it is not a replay."""
        self._understood = self._heard = True
        is_old = self._clock.wall_ms() - message.sent_ms > limits.CLOCK_AHEAD_MS
        if is_new or not is_old:
            self._clocks.note(message.origin.node, message.sent_ms)
            doubtful = self._clocks.is_tie and not self._knows_clocks
        else:
            doubtful = self._clocks.agreeing < _AGREEING
        if doubtful:
            self._doubt(about_clock=True)

    # --- a doubt, from its beginning to its end -------------------------------------------------------

    def _doubt(self, *, about_clock: bool = False) -> None:
        self.takes_doubts = False
        self._about_clock = self._about_clock or about_clock
        if not self._doubting:
            self._doubting, self._asked, self._heard = True, False, False
            self._port.after(DOUBT_TIMER, self._rng.uniform(0, self._wait_s))

    def _next_step(self) -> None:
        if not self._doubting:
            return
        if not self._asked and self._linked and (self._about_clock or not self._heard):
            self._asked, self._heard = True, False
            self._question = self._port.ask_all()
            self._port.after(DOUBT_TIMER, self._answer_s)
            return
        if self._asked and not self._heard and self._why:
            self._understood = False
        self._knows_clocks = self._knows_clocks or (self._asked and self._about_clock)
        self._rest()

    def _rest(self) -> None:
        if self._understood:
            self._why = ""
        self._doubting = self._about_clock = False
        self.takes_doubts = True
