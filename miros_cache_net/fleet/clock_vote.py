"""Is this host's clock wrong, or another's?  The majority decides.

Each reading is stored as an offset from this host's monotonic clock, which nobody can set.  So when somebody sets this
host's wall clock, the verdict changes at once, without another message.
"""

from __future__ import annotations

from miros_cache_net import limits
from miros_cache_net.clock import Clock


class ClockVote:
    """Clocks of up to `limits.CLOCKS_COMPARED` hosts heard over the current link.

    Any thread may read the properties.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._shows_ms: dict[str, float] = {}

    def note(self, node: str, sent_ms: int) -> None:
        """A message from `node` has just arrived that says `sent_ms`."""
        self._shows_ms.pop(node, None)
        if len(self._shows_ms) >= limits.CLOCKS_COMPARED:
            del self._shows_ms[next(iter(self._shows_ms))]
        self._shows_ms[node] = sent_ms - self._clock.monotonic_s() * 1000

    def clear(self) -> None:
        self._shows_ms.clear()

    @property
    def agreeing(self) -> int:
        """How many other hosts' clocks agree with this one."""
        return sum(not _differs(ahead_ms) for ahead_ms in self._ahead_ms().values())

    @property
    def is_tie(self) -> bool:
        """Only one other host has been heard and its clock differs: either may be the wrong one."""
        return [_differs(ahead_ms) for ahead_ms in self._ahead_ms().values()] == [True]

    @property
    def trouble(self) -> str:
        """What is wrong with this host's clock; "" while the clocks that agree, itself included, are the majority."""
        ahead_ms = self._ahead_ms()
        odd = {node: distance for node, distance in ahead_ms.items() if _differs(distance)}
        if not odd or len(odd) < 1 + len(ahead_ms) - len(odd):
            return ""
        node, distance_ms = next(iter(odd.items()))
        others = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        side = "behind" if distance_ms > 0 else "ahead of"
        return (
            f"this host's clock is {abs(distance_ms) / 1000:.0f} s {side} that of {node}{others}: "
            "set it, or that one (chrony, NTP)"
        )

    def _ahead_ms(self) -> dict[str, float]:
        """By node, how far its clock is ahead of this host's, in milliseconds."""
        own_ms = self._clock.wall_ms() - self._clock.monotonic_s() * 1000
        return {node: shown_ms - own_ms for node, shown_ms in self._shows_ms.copy().items()}


def _differs(ahead_ms: float) -> bool:
    return abs(ahead_ms) > limits.CLOCK_AHEAD_MS
