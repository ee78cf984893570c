"""What the charts of this host did, for those who watch: asked, answered, renewed, and ended.

Nothing runs while nobody watches.  A watch has a thread of the process send what is new, within one rate for all
watches; it ends unless its watcher renews it, and at once when the watcher's queue is gone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

from miros_cache_net import limits
from miros_cache_net.errors import MessageRefused
from miros_cache_net.host.messages import PAYLOADS, SPY, STEPS
from miros_cache_net.observe.families import TRACE_STEPS_MISSED, TRACE_STEPS_SENT, TRACE_WATCHES
from miros_cache_net.observe.on_the_way import packed, size_of
from miros_cache_net.observe.registry import Registry
from miros_cache_net.observe.steps import DETAIL, Step, StepReader
from miros_cache_net.wire.envelope import Message

log = logging.getLogger(__name__)

_FULL: Final = f"this host is watched by {limits.TRACE_WATCHES} already; try again when one of them has ended"


class TraceSender(Protocol):
    """Sends one answer to a watcher; from any thread.

    refused  called if the watcher's queue is gone
    lost     called if the answer was lost, after `refused` in that case too
    """

    def __call__(
        self, body: Any, to: str, answers: str, refused: Callable[[MessageRefused], None], lost: Callable[[], None]
    ) -> None: ...


class Wanted(NamedTuple):
    """What a watcher asked for; `charts`: their names, () for all."""

    spy: bool = False
    payloads: bool = False
    charts: tuple[str, ...] = ()

    @classmethod
    def of(cls, body: Any) -> Wanted:
        """What a request's body asks for; what cannot be understood is as if it had not been said."""
        fields = body if isinstance(body, Mapping) else {}
        charts = fields.get("charts")
        names = tuple(each for each in charts if isinstance(each, str)) if isinstance(charts, (list, tuple)) else ()
        return cls(fields.get(SPY) is True, fields.get(PAYLOADS) is True, names)

    def cut(self, step: Step) -> Step:
        """`step` without what was not asked for, which another watcher may have asked for."""
        return step._replace(spy=step.spy if self.spy else (), payload=step.payload if self.payloads else "")


class _Watch:
    """One watcher: where its answers go, and how far it has come."""

    def __init__(self, wanted: Wanted, boot: str) -> None:
        self.wanted, self.boot = wanted, boot
        self.to = self.answers = ""
        self.until_s = 0.0
        self.seen = 0
        self.missed = 0


class Traces:
    """The watches of one host.  `asked` is for the owner's thread, the rest for any.

    send      sends an answer
    changed   called on any thread when `watched` may have changed
    registry  counts the steps that were sent and missed
    """

    def __init__(self, send: TraceSender, changed: Callable[[], None], registry: Registry) -> None:
        self._send, self._changed = send, changed
        self._sent, self._missed = registry.counter(TRACE_STEPS_SENT), registry.counter(TRACE_STEPS_MISSED)
        registry.gauge(TRACE_WATCHES, lambda: len(self._watches))
        self._guard = threading.Lock()
        self._watches: dict[str, _Watch] = {}
        self._reader: StepReader | None = None
        self._of_others: deque[Step] = deque(maxlen=limits.TRACE_HELD)
        self._held: deque[tuple[int, Step]] = deque(maxlen=limits.TRACE_HELD)
        self._number = 0
        self._left = float(limits.TRACE_BYTES_AT_ONCE)
        self._looked_s = time.monotonic()
        self._stop = threading.Event()

    @property
    def watched(self) -> str:
        """What this host's processes have to record and send: `host.messages.State.watched`."""
        wanted = [each.wanted for each in list(self._watches.values())]
        words = [STEPS] if wanted else []
        words += [SPY] if any(each.spy for each in wanted) else []
        words += [PAYLOADS] if any(each.payloads for each in wanted) else []
        return " ".join(words)

    def asked(self, message: Message, to: str) -> None:
        """Begin or renew a watch, and answer at once, so that the watcher knows of this host."""
        fields = message.body if isinstance(message.body, Mapping) else {}
        name = str(fields.get("watch") or message.message_id)[: limits.MESSAGE_ID_BYTES]
        with self._guard:
            watch = self._watches.get(name)
            is_full = watch is None and len(self._watches) >= limits.TRACE_WATCHES
            if watch is not None and watch.boot != message.origin.boot:
                return
            if not is_full:
                watch = watch or self._watches.setdefault(name, _Watch(Wanted.of(fields), message.origin.boot))
                watch.to, watch.answers = to, message.message_id
                watch.until_s = time.monotonic() + limits.TRACE_WATCH_S
            self._earn()
            if not self._afford(limits.TRACE_STEP_BYTES):
                return
        said = _FULL if is_full else ""
        self._send(_body([], 0, said), to, message.message_id, lambda _: self._end(name), lambda: None)
        self._set_detail()
        self._run()

    def heard(self, steps: Iterable[Step]) -> None:
        """Another process of this host did this."""
        if self._watches:
            self._of_others.extend(steps)

    def close(self) -> None:
        """End all watches; returns at once."""
        self._stop.set()
        with self._guard:
            self._watches.clear()

    # --- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with self._guard:
            if self._reader is not None or not self._watches or self._stop.is_set():
                return
            self._reader = StepReader()
        try:
            threading.Thread(target=self._follow, name="traces", daemon=True).start()
        except RuntimeError as error:
            log.warning("this process cannot be watched for now: %s", error)
            with self._guard:
                self._reader = None
                self._watches.clear()

    def _follow(self) -> None:
        try:
            while self._look():
                self._stop.wait(limits.TRACE_EVERY_S)
        except Exception:
            log.exception("traces of this host failed; they begin again with the next request")
            with self._guard:
                self._watches.clear()
                self._rest()
        self._set_detail()

    def _rest(self) -> None:
        self._reader = None
        self._held.clear()
        self._of_others.clear()

    def _look(self) -> bool:
        """Send each watcher what is new; False once nobody watches."""
        now_s = time.monotonic()
        with self._guard:
            for name in [name for name, watch in self._watches.items() if watch.until_s <= now_s]:
                del self._watches[name]
            watches, reader = list(self._watches.items()), self._reader
            if not watches or reader is None:
                self._rest()
                return False
            self._earn()
        fresh = reader.fresh()
        while self._of_others:
            fresh.append(self._of_others.popleft())
        for step in sorted(fresh):
            self._number += 1
            self._held.append((self._number, step))
        # the one that is furthest behind first: whoever is first may take all that the rate allows
        for name, watch in sorted(watches, key=lambda each: each[1].seen):
            self._tell(name, watch)
        return True

    def _tell(self, name: str, watch: _Watch) -> None:
        first = self._held[0][0] if self._held else self._number + 1
        watch.missed += max(0, first - 1 - watch.seen) if watch.seen else 0
        watch.seen = max(watch.seen, first - 1)
        new = min(len(self._held), self._number - watch.seen)
        waiting = deque(islice(self._held, len(self._held) - new, None))
        while waiting and name in self._watches:
            steps, watch.seen = self._next_of(watch, waiting)
            if steps is None:
                return
            if steps or watch.missed:
                with self._guard:
                    missed, watch.missed = watch.missed, 0
                self._sent.add(len(steps))
                self._missed.add(missed)
                lost = partial(self._lost, watch, len(steps) + missed)
                self._send(_body(steps, missed), watch.to, watch.answers, lambda _: self._end(name), lost)

    def _next_of(self, watch: _Watch, waiting: deque[tuple[int, Step]]) -> tuple[list[list[Any]] | None, int]:
        """The steps of one message, and the number of the last; None while the rate allows no more."""
        steps: list[list[Any]] = []
        seen = watch.seen
        while waiting and len(steps) < limits.TRACE_STEPS:
            number, step = waiting[0]
            if not watch.wanted.charts or step.chart in watch.wanted.charts:
                made = packed(watch.wanted.cut(step))
                if not self._afford(size_of(made)):
                    return (steps or None), seen
                steps.append(made)
            waiting.popleft()
            seen = number
        return steps, seen

    def _earn(self) -> None:
        """Fill the token bucket of bytes, which all watches share.

        Not while a look is sent: a slow host would earn more than it packs, and would send on and on, step by step.
        """
        now_s = time.monotonic()
        earned = (now_s - self._looked_s) * limits.TRACE_BYTES_PER_S
        self._left, self._looked_s = min(self._left + earned, float(limits.TRACE_BYTES_AT_ONCE)), now_s

    def _afford(self, size: int) -> bool:
        """Take `size` bytes out of the bucket, if it holds them."""
        if self._left < size:
            return False
        self._left -= size
        return True

    def _end(self, name: str) -> None:
        """The watcher is gone; on the link's thread."""
        with self._guard:
            self._watches.pop(name, None)

    def _lost(self, watch: _Watch, steps: int) -> None:
        """The link was lost with so many steps: the watcher is told with the next ones."""
        with self._guard:
            watch.missed += steps

    def _set_detail(self) -> None:
        watched = self.watched.split()
        DETAIL.want(self, SPY in watched, PAYLOADS in watched)
        self._changed()


def _body(steps: list[list[Any]], missed: int, said: str = "") -> dict[str, Any]:
    return {"steps": steps, "missed": missed, "said": said}
