"""What `node` tells systemd of itself: that it has started, how it stands, that it does not hang, that it ends.

The protocol is a datagram to the socket that NOTIFY_SOCKET names (sd_notify(3)).  It takes fewer lines than a
library's import, and the one for it that needs no compiler (`sdnotify`) has had no release for years.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from miros_cache_net.cli.exits import printable
from miros_cache_net.cli.health import judged
from miros_cache_net.settings.environment import variable

if TYPE_CHECKING:
    from miros_cache_net.node import CacheNode

_LOG = logging.getLogger(__name__)

#: How often its state is told where no watchdog asks for more.
_TELL_EVERY_S: Final = 10.0
#: Of the watchdog's time: a look that takes its 5 s on a busy machine must not be the end of it.
_PART: Final = 1 / 3


class Supervisor:
    """The one that started this process; does nothing where there is none.

    watchdog_s   within which it wants to hear of this process; None: never
    """

    def __init__(self) -> None:
        self._address = variable("NOTIFY_SOCKET")
        usec, pid = variable("WATCHDOG_USEC"), variable("WATCHDOG_PID")
        meant = usec.isdigit() and int(usec) > 0 and pid in ("", str(os.getpid()))
        self.watchdog_s = int(usec) / 1e6 if meant else None

    def tell(self, **state: str) -> None:
        """Send it these variables; what cannot be sent is lost, for a node must not end by it."""
        if not self._address.startswith(("/", "@")):
            return
        text = "\n".join(f"{name}={value}" for name, value in state.items())
        # systemd writes an abstract socket's name with an @
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(address)
            sender.sendall(text.encode())

    @contextlib.contextmanager
    def watching(self, node: CacheNode) -> Iterator[None]:
        """Tell it that `node` has started, then how it stands, until the block ends."""
        if not self._address:
            yield
            return
        self.tell(READY="1", STATUS="started")
        ended = threading.Event()
        teller = threading.Thread(target=self._follow, args=(node, ended), name="tells systemd", daemon=True)
        teller.start()
        try:
            yield
        finally:
            self.tell(STOPPING="1", STATUS="stopping")
            ended.set()

    def _follow(self, node: CacheNode, ended: threading.Event) -> None:
        every_s = min(_TELL_EVERY_S, self.watchdog_s * _PART) if self.watchdog_s else _TELL_EVERY_S
        while not ended.is_set():
            try:
                status, alive = look(node)
            except Exception as error:  # such as no descriptor to spare: a restart for that would make it worse
                _LOG.warning("this host could not be looked at: %s: %s", type(error).__name__, error)
                status, alive = "could not be looked at", True
            if not ended.is_set():
                self.tell(STATUS=status, **({"WATCHDOG": "1"} if alive and self.watchdog_s else {}))
            ended.wait(every_s)


def look(node: CacheNode) -> tuple[str, bool]:
    """What `health` says of this host in one line, and whether this process does its work.

    A host that is out of touch, or whose clock, disk or key is wrong, is unhealthy, but no restart mends that.  What a
    restart mends is a bridge whose thread does not answer any more.
    """
    # not `status()`, which reads the cache file: a disk that hangs would hang this too, and end in a restart
    is_bridge = node._host.is_bridge
    found = judged(node.file_chart.path, 0.0)
    answers = any(each.get("pid") == os.getpid() for each in found["nodes"])
    return printable(
        f"unhealthy: {found['why']}" if found["why"] else "in step with the fleet"
    ), answers or not is_bridge
