"""The kit's process with a node, which tells besides what it has loaded, and needs no broker.

Run as ``python -m tests.multiprocess.host_process``; ``alone``: with a link that stands at once and leads nowhere.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path
from typing import Any

from miros_cache_net.testing import NodeProcess
from tests.cli_command import SOURCES


class HostProcess(NodeProcess):
    """One process of a host.  `broker`: an AMQP URL, or None for a link that stands at once and leads nowhere."""

    def __init__(self, file: Path, key: str, broker: str | None = None) -> None:
        settings = {"file": str(file), "keys": key, "node_name": "host", "amqp_urls": broker or "amqp://127.0.0.1:1"}
        program = ["-m", "tests.multiprocess.host_process", *([] if broker else ["alone"])]
        environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
        super().__init__(settings, file.parent, environment=environment, program=program)

    @property
    def role(self) -> str:
        return str(self.status()["role"])

    def write(self, contents: dict[str, Any]) -> None:
        self.tell("publish", signal="CACHE_FILE_WRITE", payload=contents)

    def errors(self) -> list[dict[str, Any]]:
        return [line for line in self.said() if line.get("signal") == "CACHE_ERROR"]

    def watches(self) -> int:
        """How many inotify instances it has."""
        return sum(_link_of(entry) == "anon_inode:inotify" for entry in Path(f"/proc/{self.pid}/fd").iterdir())


def _link_of(entry: Path) -> str:
    with contextlib.suppress(OSError):  # closed by now
        return os.readlink(entry)
    return ""


class LinkToNowhere:
    """A `Link` that stands at once; what is sent counts as confirmed and reaches nobody."""

    silent_s = 0.0
    alarm = ""

    def start(self, listener: Any) -> None:
        from miros_cache_net.amqp.link import LinkUp

        threading.Thread(target=listener.link_up, args=(LinkUp("amq.gen-x", 0, "nowhere"),), daemon=True).start()

    def publish(self, publication: Any) -> None:
        if publication.done is not None:
            publication.done(True)

    def serve_requests(self, serve: bool) -> None: ...

    def stop(self) -> None: ...


def modules() -> list[str]:
    """Which of the libraries that a follower needs not were loaded."""
    return [name for name in ("pika", "cryptography", "inotify_simple") if name in sys.modules]


if __name__ == "__main__":
    from miros_cache_net.testing.host_program import run

    alone: dict[str, Any] = {"link_factory": lambda settings, place: LinkToNowhere()} if "alone" in sys.argv else {}
    run(more={"modules": modules}, **alone)
