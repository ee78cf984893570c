"""A process with a `CacheNode` that does what it is told on standard input and prints what happens, as JSON lines.

Also the tests' side of it: `HostProcess`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from miros_cache_net.testing import wait_until


class HostProcess:
    """One process of a host.  `broker`: an AMQP URL, or None for a link that stands at once and leads nowhere."""

    def __init__(self, file: Path, key: str, broker: str | None = None) -> None:
        self.file = file
        self.output = file.parent / f"output-{len(list(file.parent.glob('output-*')))}"
        environment = {**os.environ, "MIROS_CACHE_KEYS": key, "MIROS_CACHE_FILE": str(file)}
        environment["MIROS_CACHE_NODE_NAME"] = "host"
        environment["MIROS_CACHE_AMQP_URL"] = broker or "amqp://127.0.0.1:1"
        command = [sys.executable, "-m", "tests.multiprocess.host_process", *(["broker"] if broker else [])]
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
            )

    def said(self) -> list[dict[str, Any]]:
        lines = self.output.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    def tell(self, **command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def wait_for(self, timeout_s: float = 30, **wanted: Any) -> dict[str, Any]:
        def seen() -> dict[str, Any] | None:
            assert self.process.poll() is None, self.output.read_text()
            return next((line for line in reversed(self.said()) if wanted.items() <= line.items()), None)

        return wait_until(seen, timeout_s=timeout_s, what=f"{wanted} in {self.output.read_text()[-2000:]!r}")

    def ask(self, do: str, **more: Any) -> Any:
        """Have `do` done; its result."""
        number = time.monotonic_ns()
        self.tell(do=do, number=number, **more)
        return self.wait_for(number=number)["result"]

    @property
    def role(self) -> str:
        return str(self.ask("status")["role"])

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """In good order if it still can, else killed."""
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            assert self.process.stdin is not None
            self.process.stdin.close()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        elif self.process.stdin is not None:
            self.process.stdin.close()


# --- the process --------------------------------------------------------------------------------------


def say(**line: Any) -> None:
    # one call a line: several threads speak
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


class LinkToNowhere:
    """A `Link` that stands at once; what is sent counts as confirmed and reaches nobody."""

    def start(self, listener: Any) -> None:
        from miros_cache_net.amqp.link import LinkUp

        threading.Thread(target=listener.link_up, args=(LinkUp("amq.gen-x", 0, "nowhere"),), daemon=True).start()

    def publish(self, publication: Any) -> None:
        if publication.done is not None:
            publication.done(True)

    def serve_requests(self, serve: bool) -> None: ...

    def stop(self) -> None: ...


def do(node: Any, command: dict[str, Any]) -> Any:
    what = command["do"]
    if what == "status":
        return node.status()
    if what == "stop":
        return node.stop()
    if what == "write":
        from miros_cache_net.events import CACHE_FILE_WRITE, event

        return node.file_chart.post_fifo(event(CACHE_FILE_WRITE, command["contents"]))
    if what == "modules":
        return [name for name in ("pika", "cryptography", "inotify_simple") if name in sys.modules]
    if what == "inotify":
        return sum(_link_of(fd) == "anon_inode:inotify" for fd in os.listdir("/proc/self/fd"))
    try:
        if what == "read fleet":
            document = node.read_fleet(command.get("timeout_s", 5.0))
            return None if document is None else dict(document.contents)
        if what == "fleet status":
            return node.fleet_status(command.get("timeout_s", 5.0))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    raise ValueError(what)


def _link_of(fd: str) -> str:
    # one of them is that of the listing itself, which is closed by now
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/self/fd/{fd}")
    return ""


def main() -> None:
    from miros.activeobject import Factory
    from miros.event import return_status, signals

    from miros_cache_net.events import CACHE, CACHE_ERROR, event
    from miros_cache_net.node import CacheNode

    def entry(chart: Any, e: Any) -> Any:
        for name in (CACHE, CACHE_ERROR):
            chart.subscribe(event(name))
        return return_status.HANDLED

    def cache(chart: Any, e: Any) -> Any:
        payload = e.payload
        say(n=payload.dict.get("n"), connected=payload.connected, version=payload.version, at=time.monotonic())
        return return_status.HANDLED

    def failed(chart: Any, e: Any) -> Any:
        say(error=e.payload.message, reason=e.payload.reason.value)
        return return_status.HANDLED

    listener = Factory("listener")
    state = listener.create(state="listening")
    state.catch(signal=signals.ENTRY_SIGNAL, handler=entry)
    state.catch(signal=signals.CACHE, handler=cache).catch(signal=signals.CACHE_ERROR, handler=failed)
    listening = state.to_method()
    listener.nest(listening, parent=None)
    listener.start_at(listening)
    extra = {} if "broker" in sys.argv else {"link_factory": lambda settings, place: LinkToNowhere()}
    node = CacheNode(**extra)
    say(started=os.getpid())
    for line in sys.stdin:
        command = json.loads(line)
        threading.Thread(
            target=lambda command=command: say(number=command["number"], result=do(node, command)), daemon=True
        ).start()
    node.stop()


if __name__ == "__main__":
    main()
