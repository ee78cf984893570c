"""Reports the steps of a follower's charts to its bridge while somebody watches the host."""

from __future__ import annotations

from collections import deque
from typing import Any

from miros_cache_net import limits
from miros_cache_net.host.channel import Channel
from miros_cache_net.host.messages import PAYLOADS, SPY, STEPS, Steps, encode
from miros_cache_net.observe.on_the_way import packed, size_of
from miros_cache_net.observe.steps import DETAIL, StepReader

#: Leaves room for the rest of the message.
_ROOM_BYTES = limits.HOST_REQUEST_BYTES - 256


class StepReport:
    """Use only on the follower's thread."""

    def __init__(self) -> None:
        self._reader: StepReader | None = None
        self._waiting: deque[list[Any]] = deque(maxlen=limits.TRACE_HELD)

    @property
    def is_wanted(self) -> bool:
        """Whether somebody watches; then call `send` every `limits.TRACE_EVERY_S`."""
        return self._reader is not None

    def told(self, watched: str) -> None:
        """Set what is watched (`State.watched`); "" ends the report, also when the bridge is gone."""
        words = watched.split()
        if STEPS not in words:
            self._reader = None
            self._waiting.clear()
        elif self._reader is None:
            self._reader = StepReader()
        DETAIL.want(self, SPY in words, PAYLOADS in words)

    def send(self, channel: Channel) -> None:
        """Send new steps as far as the channel accepts them; raises `OSError` if the bridge is gone."""
        if self._reader is None:
            return
        # long names full of escapes can make a step too large for any message
        self._waiting.extend(made for made in map(packed, self._reader.fresh()) if size_of(made) <= _ROOM_BYTES)
        while self._waiting and not channel.waiting:
            channel.send(encode(Steps(self._next())))

    def _next(self) -> list[Any]:
        steps = [self._waiting.popleft()]
        room = _ROOM_BYTES - size_of(steps[0])
        while self._waiting and (room := room - size_of(self._waiting[0])) >= 0:
            steps.append(self._waiting.popleft())
        return steps
