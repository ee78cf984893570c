"""This process's place on its host: the bridge, or a follower of it; and where it hears of changes from."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Protocol

from miros_cache_net.errors import Reason
from miros_cache_net.host.address import SocketAddress
from miros_cache_net.host.admission import Admission
from miros_cache_net.host.bridge_lock import BridgeLock, bridge_lock_path
from miros_cache_net.host.follower import Follower
from miros_cache_net.host.messages import State
from miros_cache_net.host.questions import Question
from miros_cache_net.host.socket import HostServer
from miros_cache_net.store.os_errors import store_error
from miros_cache_net.store.regular import open_lock_file
from miros_cache_net.store.watch import ChangeSource, FileWatch

log = logging.getLogger(__name__)

#: Who may use the socket: owner and group, as the lock file has it.
_MODE: Final = 0o660


class HostOwner(Protocol):
    """The chart whose place this is; called from several threads."""

    def bridge_event(self, name: str, payload: Any = None) -> None:
        """Post the private event `name`."""

    def report(self, reason: Reason, message: str) -> None:
        """Publish ``CACHE_ERROR``."""


class HostSide:
    """Bridge lock, host socket and change source of one process, for one document.

    Once this process is to be the bridge (`start` says so, or ``bridge_lock_taken`` is posted) the owner calls `serve`,
    `lead` and `watch_file`, and `tell` whenever there is something to tell.  Posts ``fleet_asked`` with a follower's
    `Question`.
    Raises `StoreError` where the lock file cannot be opened.
    """

    def __init__(self, owner: HostOwner, document: Path, identity: Iterable[str]) -> None:
        self._owner = owner
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
        """The `watch` of the document's `CacheFileChart`; made before `lead` is called."""
        self._changed = changed
        if self._follower is not None:
            # quicker than the chart, it may have heard of a change already
            changed()
        return self

    def close(self) -> None:
        """Of the change source: nobody wants to hear of changes any more."""
        self._changed = lambda: None
        watch, self._file_watch = self._file_watch, None
        if watch is not None:
            watch.close()

    def start(self) -> bool:
        """Take the lock (True), or follow whoever has it."""
        if self._lock.start():
            return True
        self._follower = Follower(
            self._address,
            self._admission,
            changed=self._call_changed,
            watch_file=self._watch_file,
            report=self._owner.report,
        )
        self._follower.start()
        return False

    def stop(self) -> None:
        """Give the place up; where this was the bridge, another process takes over."""
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
        # a bridge that could not make a socket
        return self._follower is not None and self._follower.no_socket and self._lock.linked

    @property
    def counters(self) -> dict[str, int]:
        """Of the socket, of whichever end this is."""
        if self._server is not None:
            return self._server.counters
        follower = self._follower
        return {} if follower is None else {"notices_received": follower.notices, "bridges_met": follower.switches}

    # --- for a follower -----------------------------------------------------------------------------

    @property
    def told(self) -> State | None:
        """What the bridge said last; None where this is the bridge, or none answers."""
        return None if self._follower is None else self._follower.state

    def saw(self, version: str) -> None:
        """This process's own chart has found `version` in the file."""
        if self._follower is not None:
            self._follower.look(version)

    def ask(self, question: Question) -> None:
        """Have the bridge ask the fleet."""
        if self._follower is not None:
            self._follower.ask(question)

    # --- for the bridge -----------------------------------------------------------------------------

    def serve(self) -> None:
        """Make the socket for the other processes of this host; once."""
        with self._guard:
            if self._stopped or self._served:
                return
            self._served = True
            server = HostServer(self._address, self._admission, self)
            try:
                status = self._lock.status
                server.start(status.st_mode & _MODE, status.st_gid)
                self._server = server
            except OSError as error:
                # what a killed bridge left there would look like one that is just being replaced
                with contextlib.suppress(OSError):
                    self._address.remove()
                log.warning("%s: no socket for the other processes of this host, they watch the file: %s",
                            self._address.path, error.strerror or error)  # fmt: skip

    def watch_file(self) -> None:
        """Have the kernel tell of changes, for all processes of this host; once."""
        # outside the guard, which a fork must find free
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
        """From now on this process is not told but tells; what it had asked its bridge is handed back."""
        follower, self._follower = self._follower, None
        return [] if follower is None else follower.close()

    def tell(self, state: State) -> None:
        """Have the followers know, and this process's own chart if `connected` is another now."""
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

    def asked(self, question: Question) -> None:
        self._owner.bridge_event("fleet_asked", question)

    # --- helpers ------------------------------------------------------------------------------------

    def _taken(self) -> None:
        # first of all, since the other followers wait for it
        self.serve()
        self._owner.bridge_event("bridge_lock_taken")

    def _watch_file(self) -> FileWatch:
        return FileWatch(self._document, self._call_changed)

    def _call_changed(self) -> None:
        self._changed()
