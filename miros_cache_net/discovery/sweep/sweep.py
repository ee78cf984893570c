"""The sweep: finds which of many addresses accept a TCP connection on a port, concurrently, on one thread.

Each address gets two connection attempts of 0.5 s instead of one of 1 s.  A machine that must first resolve the
sender's address may miss the first SYN; the kernel resends it only after 1.0 s, but a new attempt sends one at once.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import selectors
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from miros_cache_net import limits
from miros_cache_net.clock import SYSTEM_CLOCK, Clock

Target = tuple[str, int]

_REFUSING: Final = (errno.ECONNREFUSED, errno.ECONNRESET)
_OUT_OF_FILES: Final = (errno.EMFILE, errno.ENFILE)
#: Close with a reset: no data was exchanged, and a socket in TIME_WAIT for each open port would be useless.
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Answer(str, Enum):
    """The outcome of the connection attempts."""

    OPEN = "open"
    REFUSED = "refused"  # The machine is up, but nothing listens on the port.
    SILENT = "silent"  # No answer, or "no such host".


class SweepResult(NamedTuple):
    """The result for one address and port; `round_trip_s` is the answered attempt's, None without an answer."""

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
    """One sweep, for one thread; `cancel` may be called from any.

    targets      (numeric address, port) pairs, in the order in which to ask them
    sockets      the maximum number of open sockets
    neighbours   the maximum number of addresses that occupy the kernel's neighbour table at once
    on_result    called with each result as it arrives, on the sweeping thread
    make_socket  called with family and type; may raise `OSError` as `socket.socket` does
    """

    def __init__(
        self,
        targets: Iterable[Target],
        on_result: Callable[[SweepResult], None],
        *,
        sockets: int = limits.SWEEP_SOCKETS,
        neighbours: int = limits.SWEEP_SOCKETS,
        attempt_s: float = limits.SWEEP_ATTEMPT_S,
        clock: Clock = SYSTEM_CLOCK,
        make_socket: Callable[[int, int], socket.socket] = socket.socket,
    ) -> None:
        self._waiting = deque(targets)
        self._on_result = on_result
        self._sockets, self._neighbours, self._attempt_s = sockets, neighbours, attempt_s
        self._now_s, self._make_socket = clock.monotonic_s, make_socket
        #: In the order of their deadlines, because all attempts have the same timeout.
        self._under_way: dict[Target, _Attempt] = {}
        #: A heap of the moments at which the neighbour entries of finished addresses become free.
        self._released_at_s: list[float] = []
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._cancelled = False

    def run(self) -> bool:
        """Run the sweep, once.  True if every target has its result, False if the sweep was cancelled.

        Raises `OSError` if not even one socket can be opened.
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
        """Make `run` return soon; results may still arrive until it has."""
        self._cancelled = True
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    # --- attempts -------------------------------------------------------------------------------------

    def _start_some(self) -> bool:
        """Start a few attempts; True if more may start at once.  Few, so that answers are timed when they arrive."""
        for _ in range(limits.SWEEP_BURST):
            if not self._waiting or not self._has_room():
                return False
            target = self._waiting.popleft()
            if target in self._under_way:
                continue
            now_s = self._now_s()
            if not self._connect(_Attempt(target, now_s, now_s)):
                return False
        return True

    def _has_room(self) -> bool:
        now_s = self._now_s()
        while self._released_at_s and self._released_at_s[0] <= now_s:
            heapq.heappop(self._released_at_s)
        in_table = len(self._under_way) + len(self._released_at_s)
        return len(self._under_way) < self._sockets and in_table < self._neighbours

    def _connect(self, attempt: _Attempt) -> bool:
        """Start `attempt`; False if descriptors have run out, in which case the target goes back to the queue."""
        address, port = attempt.target
        try:
            sock = self._make_socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
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
        took_s = self._now_s() - attempt.began_s
        self._hang_up(attempt)
        if failure == 0:
            self._conclude(attempt, Answer.OPEN, took_s)
        elif failure in _REFUSING:
            self._conclude(attempt, Answer.REFUSED, took_s)
        # Otherwise "no such host" or similar: the attempt keeps its time, and the second attempt may succeed.

    def _end_late_ones(self) -> None:
        now_s = self._now_s()
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
            del self._under_way[attempt.target]  # Inserted again at the end, to keep the order of deadlines.
            self._connect(_Attempt(attempt.target, attempt.first_began_s, now_s, last=True))

    def _conclude(self, attempt: _Attempt, answer: Answer, round_trip_s: float | None) -> None:
        del self._under_way[attempt.target]
        held_s = limits.NEIGHBOUR_GIVEN_UP_S if answer is Answer.SILENT else limits.NEIGHBOUR_KEPT_S
        heapq.heappush(self._released_at_s, attempt.first_began_s + held_s)
        self._on_result(SweepResult(*attempt.target, answer, round_trip_s))

    def _pause_s(self) -> float | None:
        """The time until the next attempt is late, or an entry of the neighbour table becomes free."""
        moments = [attempt.began_s + self._attempt_s for attempt in list(self._under_way.values())[:1]]
        if self._waiting and len(self._under_way) < self._sockets:
            moments += self._released_at_s[:1]
        return max(min(moments) - self._now_s(), 0.0) if moments else None

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
