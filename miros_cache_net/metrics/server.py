"""The HTTP server of `node --metrics`: `/metrics`, `/healthz`, `/readyz`, on a given address."""

from __future__ import annotations

import errno
import io
import os
import threading
import time
from collections.abc import Callable, Iterable
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from miros_cache_net import limits
from miros_cache_net.errors import SettingsError
from miros_cache_net.host import forks
from miros_cache_net.metrics.collector import NodeCollector
from miros_cache_net.node_status import NodeStatus
from miros_cache_net.observe.registry import Registry

_TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")
#: Returns why the node is not healthy, "" if it is; raises `TimeoutError` if its thread does not answer.
Ask = Callable[[], str]


class MetricsServer:
    """Serves one node's numbers from construction to `close`.  Without a login: whoever reaches the port may read.

    address   ``host:port``, ``[host]:port``, or a port alone, which means this machine only
    status    returns the node's status; called from any thread
    ask       asks the node whether it is healthy

    Raises `SettingsError` for an invalid address, or one that cannot be bound.
    """

    def __init__(self, address: str, status: Callable[[], NodeStatus], registry: Registry, ask: Ask) -> None:
        host, port = parsed_address(address)
        collected = CollectorRegistry()
        collected.register(NodeCollector(status, registry))
        self._pages = {"/metrics": make_wsgi_app(collected), "/healthz": self._alive, "/readyz": self._ready}
        self._ask = ask
        self._pid = os.getpid()
        try:
            with forks.opening:
                self._server = make_server(host, port, self._serve, _server_for(host), _Handler)
                forks.remember(self)
        except OSError as error:
            raise SettingsError(
                f"metrics cannot be served at {address}: {_why(error)}", mend="choose another address with --metrics"
            ) from None
        #: The port in use; the actual one if port 0 was requested.
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name=f"metrics {self.port}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Release the port; idempotent.  No effect in a forked child, which has neither the port nor the thread."""
        if os.getpid() != self._pid:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def close_in_child(self) -> None:
        # Only the parent serves; a child that kept the port open would hold it after the parent's end.
        self._server.socket.close()

    def _serve(self, request: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        page = self._pages.get(request.get("PATH_INFO", ""))
        if page is None:
            return _said(start_response, "404 Not Found", f"the pages are {', '.join(self._pages)}")
        if request.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return _said(start_response, "405 Method Not Allowed", "only GET and HEAD are allowed")
        return page(request, start_response)

    def _alive(self, _request: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            self._ask()
        except TimeoutError:
            return _said(start_response, "503 Service Unavailable", "the node's thread does not answer")
        return _said(start_response, "200 OK", "alive")

    def _ready(self, _request: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            why = self._ask()
        except TimeoutError:
            why = "the node's thread does not answer"
        if why:
            return _said(start_response, "503 Service Unavailable", f"not ready: {why}")
        return _said(start_response, "200 OK", "ready")


def parsed_address(address: str) -> tuple[str, int]:
    """Host and port.  Raises `SettingsError`."""
    host, _, port = address.rpartition(":")
    host = (host or "127.0.0.1").removeprefix("[").removesuffix("]")
    if not (port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise SettingsError(f"--metrics {address[:60]!r} is not an address", mend="write it as 127.0.0.1:9464")
    return host, int(port)


class _Request(io.RawIOBase):
    """A client's request, with `METRICS_CLIENT_S` in all to send it: one byte now and then does not hold a slot."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._ends_s = time.monotonic() + limits.METRICS_CLIENT_S

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any) -> int:
        left_s = self._ends_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._connection.settimeout(left_s)
        try:
            return int(self._connection.recv_into(room))
        finally:
            # the answer has its own time limit
            self._connection.settimeout(limits.METRICS_CLIENT_S)


class _Handler(WSGIRequestHandler):
    #: A client that does not read the answer is disconnected.
    timeout = limits.METRICS_CLIENT_S

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Request(self.connection))

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: scrapes are routine."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._slots = threading.BoundedSemaphore(limits.METRICS_CLIENTS)
        super().__init__(*arguments, **named)

    def server_bind(self) -> None:
        """Like the standard library's, but without the reverse DNS lookup, which can be slow."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread left
            self._slots.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: the client has gone away."""


def _server_for(host: str) -> type[WSGIServer]:
    if ":" not in host:
        return _Server
    import socket

    return type("_Server6", (_Server,), {"address_family": socket.AF_INET6})


def _said(start_response: Callable[..., Any], status: str, text: str) -> list[bytes]:
    body = f"{text}\n".encode()
    start_response(status, [_TEXT, ("Content-Length", str(len(body)))])
    return [body]


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use"
    return error.strerror or str(error)
