"""pika's event loop and connection, with what a thread that must not die needs of them.

pika looks host names up on a thread that is no daemon and cannot be interrupted; gives a connection up when a
message carries a property that it cannot decode (anybody on the broker can send one); and logs every failed
attempt several times, with a traceback.  All three are mended here, by its public interfaces but for one method.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

from pika import exceptions, frame, spec
from pika.adapters.select_connection import IOLoop, SelectConnection
from pika.adapters.utils.nbio_interface import AbstractIOReference
from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter

from miros_cache_net.amqp import forks

THREAD_NAME_PREFIX = "miros-cache-link"


class LinkServices(SelectorIOServicesAdapter):  # type: ignore[misc]
    """pika's loop for one thread and any number of connections."""

    def __init__(self) -> None:
        self.loop = IOLoop()
        super().__init__(self.loop)

    def connect_socket(self, sock: socket.socket, resolved_addr: Any, on_done: Callable[[Any], None]) -> Any:
        forks.remember(sock)
        return super().connect_socket(sock, resolved_addr, on_done)

    def getaddrinfo(
        self,
        host: str,
        port: int,
        on_done: Callable[[Any], None],
        family: int = 0,
        socktype: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> AbstractIOReference:
        lookup = _Lookup(self.loop, on_done)
        if _is_address(host):
            lookup.run(host, port, family, socktype, proto, flags)
        else:
            arguments = (host, port, family, socktype, proto, flags)
            name = f"{THREAD_NAME_PREFIX}-lookup"
            threading.Thread(target=lookup.run, args=arguments, name=name, daemon=True).start()
        return lookup


class _Lookup(AbstractIOReference):  # type: ignore[misc]
    """One look-up of a name; its answer comes on the loop's thread unless cancelled before."""

    def __init__(self, loop: IOLoop, on_done: Callable[[Any], None]) -> None:
        self._loop = loop
        self._on_done: Callable[[Any], None] | None = on_done

    def run(self, *arguments: Any) -> None:
        result: Any
        try:
            result = socket.getaddrinfo(*arguments)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that IDNA cannot hold
            result = error
        self._loop.add_callback_threadsafe(lambda: self._report(result))

    def cancel(self) -> bool:
        pending, self._on_done = self._on_done is not None, None
        return pending

    def _report(self, result: Any) -> None:
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            on_done(result)


class LinkConnection(SelectConnection):  # type: ignore[misc]
    """A connection that survives message properties that cannot be decoded: such a message has none."""

    def _read_frame(self) -> tuple[int, Any]:
        try:
            consumed, value = super()._read_frame()
        except Exception:
            bare = _without_properties(self._frame_buffer)
            if bare is None:
                raise
            return bare
        if value is None and _announced_size(self._frame_buffer) > spec.FRAME_MAX_SIZE:
            # pika would collect gigabytes and wait; it is no AMQP that comes in.
            raise exceptions.InvalidFrameError("a frame larger than AMQP allows")
        return consumed, value


def end_connection(connection: LinkConnection) -> None:
    """Close politely what is open, abort what is not yet; its close callback still comes.  Idempotent."""
    if connection.is_open:
        connection.close()
    elif not connection.is_closing:
        # Not close(): of a connection that is opening it trips over an assertion in pika's connection workflow.
        abort_connection(connection)


def abort_connection(connection: LinkConnection) -> None:
    """Drop the TCP connection without a word to the broker."""
    if not connection.is_closed:
        connection._terminate_stream(ConnectionAbortedError("ended by the link"))


def quieten_pika() -> None:
    """Keep what pika logs on link threads out of the logs: the link tells each cause once, in one line.

    Somebody who sets a level on the logger "pika" sees everything again.
    """
    for name in list(logging.root.manager.loggerDict):
        if name == "pika" or name.startswith("pika."):
            logger = logging.getLogger(name)
            if _not_ours not in logger.filters:
                logger.addFilter(_not_ours)


def _not_ours(record: logging.LogRecord) -> bool:
    ours = (record.threadName or "").startswith(THREAD_NAME_PREFIX)
    return not ours or logging.getLogger("pika").level != logging.NOTSET


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _announced_size(data: bytes) -> int:
    return int.from_bytes(data[3:7], "big") if len(data) >= spec.FRAME_HEADER_SIZE else 0


def _without_properties(data: bytes) -> tuple[int, frame.Header] | None:
    """The complete content header frame that `data` begins with, without its properties; None if there is none."""
    start = spec.FRAME_HEADER_SIZE
    try:
        frame_type, channel, size = struct.unpack(">BHL", data[:start])
        _class_id, _weight, body_size = struct.unpack_from(">HHQ", data, start)
    except struct.error:
        return None
    end = start + size + spec.FRAME_END_SIZE
    if frame_type != spec.FRAME_HEADER or len(data) < end or data[end - 1] != spec.FRAME_END:
        return None
    return end, frame.Header(channel, body_size, spec.BasicProperties())
