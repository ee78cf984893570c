"""A follower's end of the host's socket: one thread that listens to the bridge, and finds the next one.

While the bridge answers, the follower watches nothing else: no inotify instance, no polling.  When the bridge ends, the
follower searches for the next one at once; while there is none, or it does not answer, the follower watches the file.
After every switch it reads the file, so that no change is missed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from miros_cache_net import limits
from miros_cache_net.errors import HostProtocolError, Reason
from miros_cache_net.host import forks
from miros_cache_net.host.address import SocketAddress
from miros_cache_net.host.admission import Admission
from miros_cache_net.host.channel import Channel
from miros_cache_net.host.messages import Ask, Full, Hello, Look, Reply, State, encode, from_bridge
from miros_cache_net.host.questions import Answer, Question
from miros_cache_net.host.step_report import StepReport
from miros_cache_net.observe.families import BRIDGES_MET, NOTICES_RECEIVED
from miros_cache_net.observe.registry import Registry

log = logging.getLogger(__name__)

#: The fraction of a question's remaining time that the bridge may use, so that its answer arrives in time.
_SHARE: Final = 0.9


class Watch(Protocol):
    """Reports changes until it is closed."""

    def close(self) -> None:
        """End the watch."""


class Follower:
    """Listens to the bridge at `address` on a thread of its own; the methods may be called from any thread.

    changed     called when document or `state` may have changed, perhaps more often than necessary
    watch_file  starts to watch the file itself; the watch that it returns calls `changed` too
    report      tells the users, at most once per `limits.REPORT_AGAIN_S`, that the bridge does not answer

    All three are called on the follower's thread.  `registry` counts the bridges that it has met, and their notices.
    """

    def __init__(
        self,
        address: SocketAddress,
        admission: Admission,
        *,
        changed: Callable[[], None],
        watch_file: Callable[[], Watch],
        report: Callable[[Reason, str], None],
        registry: Registry,
    ) -> None:
        self._address = address
        self._admission = admission
        self._changed = changed
        self._watch_file = watch_file
        self._report = report
        self._state: State | None = None
        self._watch: Watch | None = None
        self._guard = threading.Lock()
        self._closing = False
        self._to_look = ""
        self._to_ask: deque[int] = deque()
        self._questions: dict[int, Question] = {}
        self._numbers = 0
        self._told_s = -limits.REPORT_AGAIN_S
        self._channel: Channel | None = None
        self._report_of_steps = StepReport()
        self._refused = False
        self.no_socket = False
        """No bridge of this host has a socket: its lock is the only information about it."""
        self._notices, self._bridges = registry.counter(NOTICES_RECEIVED), registry.counter(BRIDGES_MET)
        with forks.opening:
            self._wake_in, self._wake_out = os.pipe()
            forks.remember(self)
        for fd in (self._wake_in, self._wake_out):
            os.set_blocking(fd, False)
        self._thread = threading.Thread(target=self._run, name=f"follower {address.path.name}", daemon=True)

    def start(self) -> None:
        """Start the thread.  Raises `RuntimeError` if no thread can be started; all descriptors are closed then."""
        try:
            self._thread.start()
        except RuntimeError:
            self.close_in_child()
            raise

    @property
    def state(self) -> State | None:
        """The bridge's last state; None while no bridge answers."""
        return self._state

    def look(self, version: str) -> None:
        """The file has `version` now: tell the bridge, so that it need not wait for the kernel's notice."""
        state = self._state
        if state is not None and state.version != version:
            self._to_look = version
            self._wake()

    def ask(self, question: Question) -> None:
        """Have the bridge ask the fleet; the next bridge is asked again, as long as the asker waits for the answer."""
        with self._guard:
            self._numbers += 1
            self._questions[self._numbers] = question
            self._to_ask.append(self._numbers)
        self._wake()

    def close(self) -> list[Question]:
        """End the follower; returns the questions that have no answer yet."""
        with self._guard:
            self._closing = True
            open_questions = list(self._questions.values())
            self._questions.clear()
        self._wake()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
        return open_questions

    def close_in_child(self) -> None:
        self._closing = True
        self._guard = threading.Lock()
        fds, self._wake_in, self._wake_out = (self._wake_in, self._wake_out), -1, -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)
        if self._channel is not None:
            self._channel.close()

    # --- the thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        failures, lost_s = 0, time.monotonic()
        try:
            while not self._closing:
                channel = self._connected()
                if channel is not None and self._follow(channel):
                    failures, lost_s = 0, time.monotonic()
                pause_s = min(limits.HOST_RETRY_TOP_S, limits.HOST_RETRY_BASE_S * 2**failures) * random.uniform(0.5, 1)
                failures = min(failures + 1, 20)
                if self._refused:
                    self._refused, pause_s = False, limits.HOST_REFUSED_S
                if time.monotonic() - lost_s >= limits.HOST_SWITCH_S:
                    self._go_on_with_file()
                self._drop_old_questions()
                self._sleep(pause_s)
        except Exception:
            log.exception("%s: the follower failed and has stopped listening to the bridge", self._address.path)
        finally:
            self._end()

    def _end(self) -> None:
        self._state = None
        self._stop_watching_file()
        with self._guard:
            self._closing = True
            for fd in (self._wake_in, self._wake_out):
                os.close(fd)
            self._wake_in = self._wake_out = -1

    def _connected(self) -> Channel | None:
        try:
            with forks.opening:
                channel = self._channel = Channel(self._address.connect(), limits.HOST_ANSWER_BYTES)
        except OSError as error:
            self.no_socket = isinstance(error, FileNotFoundError)
            return None
        self.no_socket = False
        return channel

    def _follow(self, channel: Channel) -> bool:
        """Listen to one bridge until it ends; returns whether it ever sent a message."""
        heard = False
        try:
            if not self._admission.admits(channel.connection):
                raise HostProtocolError("a process of another user has put its socket in the place of our bridge")
            heard = self._hear(channel)
        except HostProtocolError as error:
            self._say(f"{self._address.path}: {error}; falling back to the file")
            self._go_on_with_file()
            self._refused = True
        except OSError as error:
            log.debug("the bridge is gone: %s", error)
        except Exception:
            log.exception("%s: the bridge's message could not be handled; falling back to the file", self._address.path)
            self._go_on_with_file()
            self._refused = True
        finally:
            heard = heard or self._state is not None
            self._state = self._channel = None
            self._report_of_steps.told("")
            channel.close()
        return heard

    def _hear(self, channel: Channel) -> bool:
        channel.send(encode(Hello()))
        with self._guard:
            self._to_ask = deque(self._questions)
        heard, silent = False, False
        deadline_s = time.monotonic() + limits.HOST_ANSWER_S
        while not self._closing:
            channel.flush()
            self._send_wishes(channel)
            self._report_of_steps.send(channel)
            ready = self._wait(channel, self._longest_wait_s(None if silent else deadline_s - time.monotonic()))
            bodies = channel.receive() if ready else []
            if bodies is None:
                break
            if bodies:
                for body in bodies:
                    self._take(from_bridge(body))
                heard, silent, deadline_s = True, False, time.monotonic() + limits.HOST_ANSWER_S
            elif not silent and time.monotonic() >= deadline_s:
                silent = True
                self._fall_silent()
        return heard

    def _longest_wait_s(self, until_deadline_s: float | None) -> float | None:
        if not self._report_of_steps.is_wanted:
            return until_deadline_s
        return limits.TRACE_EVERY_S if until_deadline_s is None else min(until_deadline_s, limits.TRACE_EVERY_S)

    def _wait(self, channel: Channel, timeout_s: float | None) -> bool:
        """Wait until there is something to do; returns whether there is something to read."""
        poll = select.poll()
        poll.register(self._wake_in, select.POLLIN)
        poll.register(channel, select.POLLIN | (select.POLLOUT if channel.waiting else 0))
        found = dict(poll.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000))
        if self._wake_in in found:
            self._drain()
        return bool(found.get(channel.fileno(), 0) & ~select.POLLOUT)

    def _sleep(self, pause_s: float) -> None:
        poll = select.poll()
        poll.register(self._wake_in, select.POLLIN)
        until_s = time.monotonic() + pause_s
        while not self._closing and (left_s := until_s - time.monotonic()) > 0:
            if poll.poll(left_s * 1000):
                self._drain()

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_in, 4096)

    def _wake(self) -> None:
        with self._guard, contextlib.suppress(OSError):
            # A full pipe wakes the thread as well.
            os.write(self._wake_out, b"\0")

    # --- messages from the bridge -------------------------------------------------------------------

    def _take(self, message: State | Reply | Full) -> None:
        if isinstance(message, Full):
            raise HostProtocolError("the bridge of this host has no room for more followers: raise its `ulimit -n`")
        if isinstance(message, State):
            self._is_told(message)
            return
        self._drop_old_questions()
        with self._guard:
            question = self._questions.pop(message.number, None)
        if question is not None:
            question.done(Answer(message.value, message.error))

    def _is_told(self, state: State) -> None:
        before, self._state = self._state, state
        self._report_of_steps.told(state.watched)
        if before is None:
            self._bridges.add()
            self._stop_watching_file()
        if before is None or (state.version, state.connected) != (before.version, before.connected):
            self._notices.add()
            self._changed()

    def _fall_silent(self) -> None:
        self._say(
            f"{self._address.path}: the bridge of this host does not answer; falling back to the file. "
            "Is its process stopped, or the machine overloaded?"
        )
        self._state = None
        self._go_on_with_file()

    def _say(self, message: str) -> None:
        if time.monotonic() - self._told_s >= limits.REPORT_AGAIN_S:
            self._told_s = time.monotonic()
            self._report(Reason.BRIDGE, message)

    # --- the file -----------------------------------------------------------------------------------

    def _go_on_with_file(self) -> None:
        if self._watch is None and not self._closing:
            try:
                self._watch = self._watch_file()
            except Exception as error:  # out of descriptors, for example; retried at the next search for a bridge
                log.warning("%s: the file cannot be watched for now: %s", self._address.path, error)
            self._changed()

    def _stop_watching_file(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    # --- messages to the bridge ---------------------------------------------------------------------

    def _send_wishes(self, channel: Channel) -> None:
        if self._to_look and not channel.waiting:
            version, self._to_look = self._to_look, ""
            channel.send(encode(Look(version)))
        self._drop_old_questions()
        while self._to_ask and not channel.waiting:
            number = self._to_ask.popleft()
            question = self._questions.get(number)
            if question is not None:
                left_s = min(max(_SHARE * (question.deadline_s - time.monotonic()), 0.001), limits.HOST_QUESTION_S)
                channel.send(encode(Ask(number, question.what, left_s)))

    def _drop_old_questions(self) -> None:
        now_s = time.monotonic()
        with self._guard:
            for number in [number for number, each in self._questions.items() if each.deadline_s <= now_s]:
                del self._questions[number]
