"""This process's role on its host, bridge or follower, and how it learns of changes to the file."""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Protocol

from miros_cache_net import limits
from miros_cache_net.errors import Reason
from miros_cache_net.fleet.node_events import BRIDGE_LOCK_TAKEN, FLEET_ASKED, HEALTH_ASKED
from miros_cache_net.host.address import SocketAddress
from miros_cache_net.host.admission import Admission
from miros_cache_net.host.bridge_lock import BridgeLock, bridge_lock_path
from miros_cache_net.host.follower import Follower
from miros_cache_net.host.messages import HEALTH, State
from miros_cache_net.host.questions import Question
from miros_cache_net.host.socket import HostServer
from miros_cache_net.observe.on_the_way import unpacked
from miros_cache_net.observe.registry import Registry
from miros_cache_net.observe.steps import Step
from miros_cache_net.store.lock_file import open_lock_file
from miros_cache_net.store.os_errors import store_error
from miros_cache_net.store.watch import ChangeSource, FileWatch

log = logging.getLogger(__name__)

#: Socket permissions: owner and group, as far as the lock file grants them.
_MODE: Final = 0o660
#: Errors that pass when this process or machine has descriptors and memory again.
_FOR_NOW: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN)


class HostOwner(Protocol):
    """The chart that owns this; called from several threads."""

    def bridge_event(self, name: str, payload: Any = None) -> None:
        """Post the private event `name`, one of `node_events`."""

    def report(self, reason: Reason, message: str) -> None:
        """Publish ``CACHE_ERROR``."""

    def followers_did(self, steps: Iterable[Step]) -> None:
        """The charts of another process of this host did this."""


class HostSide:
    """Bridge lock, host socket and change source of one process, for one document.

    When this process becomes the bridge (`start` returns True, or ``bridge_lock_taken`` is posted), the owner calls
    `serve`, `lead` and `watch_file`, then `tell` with each new state.  Posts ``fleet_asked`` with a follower's
    `Question`, or ``health_asked`` if the question is about this host.
    Raises `StoreError` if the lock file cannot be opened.
    """

    def __init__(self, owner: HostOwner, document: Path, identity: Iterable[str], registry: Registry) -> None:
        self._owner, self._registry = owner, registry
        self._document = document
        path = bridge_lock_path(document, identity)
        try:
            self._lock = BridgeLock(path, self._taken, open_lock_file)
        except OSError as error:
            raise store_error(error, path) from error
        self._address = SocketAddress(path)
        self._admission = Admission.as_for(self._lock.status)
        self._guard = threading.Lock()
        self._stopped = self._served = False
        self._state = State("", connected=False)
        self._changed: Callable[[], None] = lambda: None
        self._file_watch: FileWatch | None = None
        self._follower: Follower | None = None
        self._server: HostServer | None = None

    # --- for both -----------------------------------------------------------------------------------

    def watch(self, path: Path, changed: Callable[[], None]) -> ChangeSource:
        """The `watch` argument of the document's `CacheFileChart`; called before `lead`."""
        self._changed = changed
        if self._follower is not None:
            # the follower may have heard of a change before the chart was ready
            changed()
        return self

    def close(self) -> None:
        """The `close` of `ChangeSource`: stop reporting changes."""
        self._changed = lambda: None
        watch, self._file_watch = self._file_watch, None
        if watch is not None:
            watch.close()

    def start(self) -> bool:
        """Take the lock (True), or follow the process that has it (False).

        Raises `OSError` or `RuntimeError` if the system has no descriptor or thread to spare; call it again later.
        """
        if self._lock.start():
            return True
        follower = Follower(
            self._address,
            self._admission,
            changed=self._call_changed,
            watch_file=self._watch_file,
            report=self._owner.report,
            registry=self._registry,
        )
        follower.start()
        self._follower = follower
        return False

    def stop(self) -> None:
        """Give the role up; if this was the bridge, another process takes over."""
        with self._guard:
            self._stopped = True
            server, follower = self._server, self._follower
        for each in (server, follower):
            if each is not None:
                each.close()
        self.close()
        self._lock.close()

    @property
    def is_bridge(self) -> bool:
        return self._lock.held

    @property
    def connected(self) -> bool:
        """This host is in step with the fleet."""
        if self._lock.held:
            return self._state.connected
        if (state := self.told) is not None:
            return state.connected
        # the bridge could not make a socket, so the lock file alone says whether it is linked
        return self._follower is not None and self._follower.no_socket and self._lock.linked

    # --- for a follower -----------------------------------------------------------------------------

    @property
    def told(self) -> State | None:
        """The bridge's last state; None if this is the bridge, or none answers."""
        return None if self._follower is None else self._follower.state

    def saw(self, version: str) -> None:
        """This process's chart has read `version` from the file."""
        if self._follower is not None:
            self._follower.look(version)

    def ask(self, question: Question) -> None:
        """Have the bridge ask the fleet."""
        if self._follower is not None:
            self._follower.ask(question)

    # --- for the bridge -----------------------------------------------------------------------------

    def serve(self) -> None:
        """Open the socket for the other processes of this host; idempotent.

        Raises `OSError` or `RuntimeError` if the system has no descriptor or thread to spare; call it again later.
        """
        with self._guard:
            if self._stopped or self._served:
                return
            server = HostServer(self._address, self._admission, self, self._registry)
            try:
                status = self._lock.status
                server.start(status.st_mode & _MODE, status.st_gid, status.st_uid)
                self._served, self._server = True, server
            except (OSError, RuntimeError) as error:
                # a killed bridge's stale socket would look like a bridge that is just being replaced
                with contextlib.suppress(OSError):
                    self._address.remove()
                if not isinstance(error, OSError) or error.errno in _FOR_NOW:
                    raise
                self._served = True
                log.warning("%s: the other processes of this host get no socket, so they watch the file: %s",
                            self._address.path, error.strerror or error)  # fmt: skip

    def watch_file(self) -> None:
        """Start the kernel watch on the file, on behalf of all processes of this host; idempotent."""
        # outside the lock: a fork must not inherit it held
        watch = self._watch_file()
        with self._guard:
            wanted = not self._stopped and self._file_watch is None
            if wanted:
                self._file_watch = watch
        if wanted:
            self._changed()
        else:
            watch.close()

    def lead(self) -> list[Question]:
        """Stop following: this process is the bridge now.  Returns the questions its former bridge has not answered."""
        follower, self._follower = self._follower, None
        return [] if follower is None else follower.close()

    def tell(self, state: State) -> None:
        """Send `state` to the followers, and wake this process's chart if `connected` has changed."""
        before, self._state = self._state, state
        if state == before:
            return
        if self._server is not None:
            self._server.tell(state)
        if state.connected != before.connected:
            self._lock.set_linked(state.connected)
            self._changed()

    # --- HostListener: on the server's thread -------------------------------------------------------

    def please_look(self, version: str) -> None:
        self._changed()

    def stepped(self, steps: list[Any]) -> None:
        self._owner.followers_did(unpacked(steps, limits.TRACE_STEPS))

    def asked(self, question: Question) -> None:
        self._owner.bridge_event(HEALTH_ASKED if question.what == HEALTH else FLEET_ASKED, question)

    # --- helpers ------------------------------------------------------------------------------------

    def _taken(self) -> None:
        # first, because the other followers wait for the socket; what is denied now, the owner tries again
        with contextlib.suppress(OSError, RuntimeError):
            self.serve()
        self._owner.bridge_event(BRIDGE_LOCK_TAKEN)

    def _watch_file(self) -> FileWatch:
        return FileWatch(self._document, self._call_changed)

    def _call_changed(self) -> None:
        self._changed()
