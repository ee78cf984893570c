"""The bridge's end of the host's socket: one thread sends thousands of followers what the file cannot carry.

Each follower costs a descriptor, a few small objects and a bounded kernel buffer.  Notices are states, not
events: a slow follower gets the newest one once it reads again.  The thread waits for no follower.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from miros_cache_net import limits
from miros_cache_net.errors import HostProtocolError
from miros_cache_net.host import forks
from miros_cache_net.host.address import SocketAddress
from miros_cache_net.host.admission import Admission
from miros_cache_net.host.channel import Channel
from miros_cache_net.host.messages import (
    Ask,
    FromFollower,
    Full,
    Hello,
    Reply,
    State,
    Steps,
    encode,
    from_follower,
)
from miros_cache_net.host.questions import Answer, Question
from miros_cache_net.observe.families import FOLLOWERS, FOLLOWERS_DROPPED, FOLLOWERS_REFUSED, NOTICES_SENT
from miros_cache_net.observe.registry import Counter, Registry

log = logging.getLogger(__name__)

_ACCEPT_AT_ONCE: Final = 64
_BUSY: Final = "the bridge of this host has too many questions to answer; ask again later"


class HostListener(Protocol):
    """Called on the server's thread; must return at once and not raise."""

    def please_look(self, version: str) -> None:
        """A follower has seen `version` in the file, which differs from our last notice."""

    def asked(self, question: Question) -> None:
        """A follower asks the fleet a question."""

    def stepped(self, steps: list[Any]) -> None:
        """A follower's charts took these steps, as sent in `messages.Steps`."""


class _Follower:
    """A connection, and its pending notices and answers."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.since_s = time.monotonic()
        self.greeted = False
        self.behind = False
        self.open_questions = 0


class HostServer:
    """Serves the followers of one bridge on a thread of its own; `start`, `tell` and `close` from any thread.

    `registry` counts the followers, those that were dropped or refused, and the notices.
    """

    def __init__(
        self, address: SocketAddress, admission: Admission, listener: HostListener, registry: Registry
    ) -> None:  # fmt: skip
        self._registry = registry
        self._dropped, self._refused, self._notices = map(
            registry.counter, (FOLLOWERS_DROPPED, FOLLOWERS_REFUSED, NOTICES_SENT)
        )
        self._address = address
        self._admission = admission
        self._listener = listener
        self._room = limits.HOST_FOLLOWERS
        self._followers: dict[int, _Follower] = {}
        self._questions = 0
        self._state: State | None = None
        self._told: State | None = None
        self._looked_for = ""
        self._posted: deque[Callable[[], None]] = deque()
        self._guard = threading.Lock()
        self._closing = False
        self._next_beat_s = 0.0
        self._accept_again_s = 0.0
        self._thread = threading.Thread(target=self._run, name=f"host socket {address.path.name}", daemon=True)

    def start(self, mode: int, group: int, owner: int = -1) -> None:
        """Listen, with these permissions (see `SocketAddress.listen`).  Raises `OSError` if that is impossible.

        Raises `RuntimeError` if the system has no thread to spare.
        """
        self._room = min(limits.HOST_FOLLOWERS, _descriptors() - limits.HOST_SPARE_DESCRIPTORS)
        with forks.opening:
            self._socket = self._address.listen(mode, group, owner)
            self._wake_in, self._wake_out = socket.socketpair()
            self._selector = selectors.DefaultSelector()
            forks.remember(self)
        for end in (self._wake_in, self._wake_out):
            end.setblocking(False)
        self._selector.register(self._socket, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake_in, selectors.EVENT_READ, self._drain)
        self._registry.gauge(FOLLOWERS, lambda: len(self._followers))
        try:
            self._thread.start()
        except RuntimeError:
            self._close_all()
            raise

    def tell(self, state: State) -> None:
        """Send the state to all followers; only the newest one is sent."""
        self._state = state
        # A later follower gets the newest state anyway: without followers there is no need to wake the thread.
        if self._followers:
            self._post(self._tell)

    def close(self) -> None:
        """Close all connections and end the thread; only for the holder of the lock."""
        with self._guard:
            closed, self._closing = self._closing, True
        if closed or not self._thread.is_alive():
            return
        self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def close_in_child(self) -> None:
        # The parent shares these: close them, but neither shut them down nor remove them from the poll set.
        self._closing = True
        for follower in list(self._followers.values()):
            follower.channel.close()
        for each in (self._socket, self._wake_in, self._wake_out, self._selector):
            each.close()

    # --- the thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing:
                for key, events in self._selector.select(max(0.0, self._next_beat_s - time.monotonic())):
                    key.data(events)
                while self._posted:
                    self._posted.popleft()()
                if time.monotonic() >= self._next_beat_s:
                    self._beat()
        except Exception:
            log.exception("the host's socket failed; the other processes of this host fall back to the file")
        finally:
            self._close_all()

    def _close_all(self) -> None:
        with contextlib.suppress(OSError):
            self._address.remove()
        for follower in list(self._followers.values()):
            follower.channel.close()
        self._followers.clear()
        with self._guard:
            self._closing = True
            for each in (self._socket, self._wake_in, self._wake_out, self._selector):
                each.close()

    def _post(self, action: Callable[[], None]) -> None:
        self._posted.append(action)
        self._wake()

    def _wake(self) -> None:
        # A full pipe wakes the thread as well; a closed one has no thread to wake.
        with contextlib.suppress(OSError):
            self._wake_out.send(b"\0")

    def _drain(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_in.recv(4096)

    # --- connections --------------------------------------------------------------------------------

    def _accept(self, _events: int) -> None:
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                with forks.opening:
                    connection, _ = self._socket.accept()
                    follower = _Follower(Channel(connection, limits.HOST_REQUEST_BYTES))
                    self._followers[connection.fileno()] = follower
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause_accepting(error)
                return
            self._welcome(connection, follower)

    def _welcome(self, connection: socket.socket, follower: _Follower) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.HOST_SEND_BYTES)
        self._selector.register(connection, selectors.EVENT_READ, lambda events: self._serve(follower, events))
        if not self._admission.admits(connection):
            self._drop(follower, self._refused, "a process of another user")
        elif len(self._followers) > self._room:
            with contextlib.suppress(OSError):
                follower.channel.send(encode(Full()))
            self._drop(follower, self._refused, "no room for more followers: raise `ulimit -n`")

    def _pause_accepting(self, error: OSError) -> None:
        # Out of descriptors: the listening socket stays readable, so an immediate retry would be a busy loop.
        log.warning("the host's socket accepts no more followers for now: %s", error.strerror or error)
        self._selector.unregister(self._socket)
        self._accept_again_s = time.monotonic() + limits.HOST_BEAT_S

    def _drop(self, follower: _Follower, count: Counter | None = None, why: str = "") -> None:
        number = follower.channel.fileno()
        if self._followers.get(number) is not follower:
            return
        del self._followers[number]
        self._questions -= follower.open_questions
        if count is not None:
            # Count first: the other end may read the counter as soon as its connection closes.
            count.add()
            log.log(logging.WARNING if count.value == 1 else logging.DEBUG, "dropped a follower: %s", why)
        self._selector.unregister(follower.channel.connection)
        follower.channel.close()

    # --- received messages --------------------------------------------------------------------------

    def _serve(self, follower: _Follower, events: int) -> None:
        if self._followers.get(follower.channel.fileno()) is not follower:
            return  # dropped since the poll
        try:
            if events & selectors.EVENT_WRITE:
                self._flush(follower)
            bodies = follower.channel.receive() if events & selectors.EVENT_READ else []
            for body in bodies or ():
                self._take(follower, from_follower(body))
        except HostProtocolError as error:
            self._drop(follower, self._dropped, str(error))
        except OSError:
            self._drop(follower)
        except Exception:
            log.exception("a follower's message could not be handled")
            self._drop(follower, self._dropped, "a bug in the bridge")
        else:
            if bodies is None:
                self._drop(follower)

    def _take(self, follower: _Follower, message: FromFollower) -> None:
        if isinstance(message, Hello):
            follower.greeted = True
            self._notify(follower)
        elif not follower.greeted:
            raise HostProtocolError("a follower did not begin with hello")
        elif isinstance(message, Ask):
            self._ask(follower, message)
        elif isinstance(message, Steps):
            self._listener.stepped(message.steps)
        elif message.version != self._looked_for and self._state and message.version != self._state.version:
            self._looked_for = message.version
            self._listener.please_look(message.version)

    def _ask(self, follower: _Follower, ask: Ask) -> None:
        if follower.open_questions >= limits.HOST_QUESTIONS_EACH or self._questions >= limits.HOST_QUESTIONS:
            self._send(follower, encode(Reply(ask.number, None, _BUSY)))
            return
        follower.open_questions += 1
        self._questions += 1

        def done(answer: Answer) -> None:
            self._post(lambda: self._answer(follower, Reply(ask.number, *answer)))

        self._listener.asked(Question(ask.what, time.monotonic() + ask.timeout_s, done))

    # --- sent messages ------------------------------------------------------------------------------

    def _answer(self, follower: _Follower, reply: Reply) -> None:
        if self._followers.get(follower.channel.fileno()) is not follower:
            return
        follower.open_questions -= 1
        self._questions -= 1
        try:
            data = encode(reply)
            if len(data) > limits.HOST_SEND_BYTES and self._waiting_bytes() + len(data) > limits.HOST_BUFFER_BYTES:
                data = encode(Reply(reply.number, None, _BUSY))
        except HostProtocolError as error:
            data = encode(Reply(reply.number, None, str(error)))
        self._try(follower, data)

    def _waiting_bytes(self) -> int:
        return sum(each.channel.waiting for each in self._followers.values())

    def _tell(self) -> None:
        if self._state != self._told:
            self._notices.add(self._tell_all())

    def _tell_all(self) -> int:
        """Send the state to the followers that read; returns their number."""
        told, self._told = 0, self._state
        if self._told is not None and self._followers:
            data = encode(self._told)
            for follower in list(self._followers.values()):
                if follower.channel.waiting:
                    follower.behind = True
                elif follower.greeted:
                    told += 1
                    self._try(follower, data)
        self._next_beat_s = time.monotonic() + limits.HOST_BEAT_S
        return told

    def _beat(self) -> None:
        """Send a heartbeat, and drop followers that do not read or never say hello."""
        now_s = time.monotonic()
        if self._accept_again_s and now_s >= self._accept_again_s:
            self._accept_again_s = 0.0
            self._selector.register(self._socket, selectors.EVENT_READ, self._accept)
        for follower in list(self._followers.values()):
            stalled_since = follower.channel.stalled_since
            if stalled_since is not None and now_s - stalled_since >= limits.HOST_STALLED_S:
                self._drop(follower, self._dropped, "it does not read")
            elif not follower.greeted and now_s - follower.since_s >= limits.HOST_ANSWER_S:
                self._drop(follower, self._dropped, "it does not say hello")
        self._tell_all()

    def _notify(self, follower: _Follower) -> None:
        if self._state is not None:
            self._notices.add()
            self._send(follower, encode(self._state))

    def _try(self, follower: _Follower, data: bytes) -> None:
        try:
            self._send(follower, data)
        except OSError:
            self._drop(follower)

    def _send(self, follower: _Follower, data: bytes) -> None:
        channel = follower.channel
        was_waiting = bool(channel.waiting)
        channel.send(data)
        if bool(channel.waiting) != was_waiting:
            self._await_room(follower)

    def _flush(self, follower: _Follower) -> None:
        follower.channel.flush()
        if follower.behind and not follower.channel.waiting:
            follower.behind = False
            self._notify(follower)
        self._await_room(follower)

    def _await_room(self, follower: _Follower) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if follower.channel.waiting else 0)
        key = self._selector.get_key(follower.channel.connection)
        self._selector.modify(key.fileobj, events, key.data)


def _descriptors() -> int:
    """How many descriptors this process may have open at once."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limits.HOST_FOLLOWERS * 2 if soft == resource.RLIM_INFINITY else soft
