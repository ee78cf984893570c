"""The sweep: which of many addresses take a TCP connection on a port?  All asked at once, none with a thread.

Each address gets two connection attempts of 0.5 s, not one of 1 s: a machine that misses the first SYN because
it has yet to learn who asks answers the kernel's resend after 1.0 s, but a new attempt at once.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from miros_cache_net import limits

Target = tuple[str, int]

_REFUSING: Final = (errno.ECONNREFUSED, errno.ECONNRESET)
_OUT_OF_FILES: Final = (errno.EMFILE, errno.ENFILE)
#: Close with a reset: nothing was said, and a socket in TIME_WAIT for each open port would serve nobody.
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Answer(str, Enum):
    """What became of the attempts to connect."""

    OPEN = "open"
    REFUSED = "refused"  # a machine is there, nothing listens on the port
    SILENT = "silent"  # nothing came back, or "no such host"


class SweepResult(NamedTuple):
    """One address and port; `round_trip_s` of the attempt that was answered, None where none was."""

    address: str
    port: int
    answer: Answer
    round_trip_s: float | None = None


@dataclass
class _Attempt:
    target: Target
    first_began_s: float
    began_s: float
    last: bool = False
    sock: socket.socket | None = None


class Sweep:
    """One sweep, for the use of one thread; `cancel` from any.

    targets      (numeric address, port) pairs, in the order in which they are asked
    sockets      at most so many are open at once
    neighbours   at most so many addresses wait in the kernel's neighbour table at once
    on_result    called with each result as it comes, on the sweeping thread
    """

    def __init__(
        self,
        targets: Iterable[Target],
        on_result: Callable[[SweepResult], None],
        *,
        sockets: int = limits.SWEEP_SOCKETS,
        neighbours: int = limits.SWEEP_SOCKETS,
        attempt_s: float = limits.SWEEP_ATTEMPT_S,
    ) -> None:
        self._waiting = deque(targets)
        self._on_result = on_result
        self._sockets, self._neighbours, self._attempt_s = sockets, neighbours, attempt_s
        #: In the order of their deadlines: all attempts have the same time.
        self._under_way: dict[Target, _Attempt] = {}
        #: When the neighbour entries of addresses that are done with can be had again.
        self._released_at_s: list[float] = []
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._cancelled = False

    def run(self) -> bool:
        """Sweep; once.  True when every target has its result, False if it was cancelled.

        Raises `OSError` where not even one socket can be opened.
        """
        try:
            self._selector.register(self._woken, selectors.EVENT_READ)
            while (self._waiting or self._under_way) and not self._cancelled:
                more = self._start_some()
                self._take_answers(0.0 if more else self._pause_s())
                self._end_late_ones()
            return not self._cancelled
        finally:
            self._close()

    def cancel(self) -> None:
        """End it soon; results may still come until `run` has returned."""
        self._cancelled = True
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    # --- attempts -------------------------------------------------------------------------------------

    def _start_some(self) -> bool:
        """Start a few; True if more may start at once.  Few, so that the first answers are timed when they come."""
        for _ in range(limits.SWEEP_BURST):
            if not self._waiting or not self._has_room():
                return False
            target = self._waiting.popleft()
            if target in self._under_way:
                continue
            now_s = time.monotonic()
            if not self._connect(_Attempt(target, now_s, now_s)):
                return False
        return True

    def _has_room(self) -> bool:
        now_s = time.monotonic()
        while self._released_at_s and self._released_at_s[0] <= now_s:
            heapq.heappop(self._released_at_s)
        in_table = len(self._under_way) + len(self._released_at_s)
        return len(self._under_way) < self._sockets and in_table < self._neighbours

    def _connect(self, attempt: _Attempt) -> bool:
        """False where descriptors have run out: it waits again for its turn."""
        address, port = attempt.target
        try:
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        except OSError as error:
            if error.errno not in _OUT_OF_FILES or not self._under_way:
                raise
            self._sockets = len(self._under_way)
            self._waiting.appendleft(attempt.target)
            return False
        attempt.sock = sock
        self._under_way[attempt.target] = attempt
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        failure = sock.connect_ex((address, port))
        if failure == errno.EINPROGRESS:
            self._selector.register(sock, selectors.EVENT_WRITE, attempt)
        else:
            self._answered(attempt, failure)
        return True

    def _take_answers(self, timeout_s: float | None) -> None:
        for key, _events in self._selector.select(timeout_s):
            if isinstance(key.data, _Attempt) and key.data.sock is not None:
                self._answered(key.data, key.data.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _answered(self, attempt: _Attempt, failure: int) -> None:
        took_s = time.monotonic() - attempt.began_s
        self._hang_up(attempt)
        if failure == 0:
            self._conclude(attempt, Answer.OPEN, took_s)
        elif failure in _REFUSING:
            self._conclude(attempt, Answer.REFUSED, took_s)
        # else "no such host" or the like: what is left of its time may change that

    def _end_late_ones(self) -> None:
        now_s = time.monotonic()
        late = []
        for attempt in self._under_way.values():
            if attempt.began_s + self._attempt_s > now_s:
                break
            late.append(attempt)
        for attempt in late:
            self._hang_up(attempt)
            if attempt.last:
                self._conclude(attempt, Answer.SILENT, None)
                continue
            del self._under_way[attempt.target]  # to the end of the line
            self._connect(_Attempt(attempt.target, attempt.first_began_s, now_s, last=True))

    def _conclude(self, attempt: _Attempt, answer: Answer, round_trip_s: float | None) -> None:
        del self._under_way[attempt.target]
        held_s = limits.NEIGHBOUR_GIVEN_UP_S if answer is Answer.SILENT else limits.NEIGHBOUR_KEPT_S
        heapq.heappush(self._released_at_s, attempt.first_began_s + held_s)
        self._on_result(SweepResult(*attempt.target, answer, round_trip_s))

    def _pause_s(self) -> float | None:
        """Until the next attempt is late, or a place in the neighbour table is free."""
        moments = [attempt.began_s + self._attempt_s for attempt in list(self._under_way.values())[:1]]
        if self._waiting and len(self._under_way) < self._sockets:
            moments += self._released_at_s[:1]
        return max(min(moments) - time.monotonic(), 0.0) if moments else None

    # --- the end --------------------------------------------------------------------------------------

    def _hang_up(self, attempt: _Attempt) -> None:
        sock, attempt.sock = attempt.sock, None
        if sock is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(sock)
            sock.close()

    def _close(self) -> None:
        for attempt in self._under_way.values():
            self._hang_up(attempt)
        self._selector.close()
        self._wake.close()
        self._woken.close()
