"""pika's event loop and connection, hardened for a thread that must not die.

pika resolves host names on a non-daemon thread that cannot be interrupted, drops the connection when it cannot decode a
message property (which anybody on the broker can send), and logs every failed attempt several times with a traceback.
All three are fixed here, through its public interfaces except for one method.
"""

from __future__ import annotations

import ipaddress
import logging
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

from pika import exceptions, frame, spec
from pika.adapters.select_connection import EPollPoller, IOLoop, PollPoller, SelectConnection
from pika.adapters.utils.nbio_interface import AbstractIOReference
from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter

from miros_cache_net.amqp import forks
from miros_cache_net.amqp.look_up import GetAddrInfo, LookUp

THREAD_NAME_PREFIX = "miros-cache-link"


class _Poller(EPollPoller if hasattr(select, "epoll") else PollPoller):  # type: ignore[misc]
    """Woken through a socket pair: pika's own way takes a port and needs the loopback interface to be up."""

    @staticmethod
    def _get_interrupt_pair() -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair()
        for end in pair:
            end.setblocking(False)
        return pair


class _Loop(IOLoop):  # type: ignore[misc]
    @staticmethod
    def _get_poller(get_wait_seconds: Callable[[], float | None], process_timeouts: Callable[[], None]) -> _Poller:
        return _Poller(get_wait_seconds, process_timeouts)


class LinkServices(SelectorIOServicesAdapter):  # type: ignore[misc]
    """pika's loop for one thread and any number of connections; acquires all its descriptors in the constructor.

    Raises `OSError` if this process can get no more descriptors.
    """

    def __init__(self, getaddrinfo: GetAddrInfo = socket.getaddrinfo) -> None:
        self._getaddrinfo = getaddrinfo
        self.loop = _Loop()
        try:
            # pika would do this on the first turn, where an error could reach no caller
            self.loop.activate_poller()
        except OSError:
            self.loop.close()
            raise
        super().__init__(self.loop)

    def turn(self) -> None:
        """Wait for the next events, and process them."""
        self.loop.poll()
        self.loop.process_timeouts()

    def connect_socket(self, sock: socket.socket, resolved_addr: Any, on_done: Callable[[Any], None]) -> Any:
        forks.remember(sock)
        return super().connect_socket(sock, resolved_addr, on_done)

    def getaddrinfo(
        self,
        host: str,
        port: int,
        on_done: Callable[[Any], object],
        family: int = 0,
        socktype: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> AbstractIOReference:
        arguments = (host, port, family, socktype, proto, flags)
        if _is_address(host):
            look_up = LookUp(self.loop, socket.getaddrinfo, on_done)
            look_up.run(*arguments)
        else:
            look_up = LookUp(self.loop, self._getaddrinfo, on_done)
            look_up.start(f"{THREAD_NAME_PREFIX}-lookup", *arguments)
        return look_up


class LinkConnection(SelectConnection):  # type: ignore[misc]
    """A connection that survives undecodable message properties: it delivers such a message without any."""

    def _read_frame(self) -> tuple[int, Any]:
        try:
            consumed, value = super()._read_frame()
        except Exception:
            bare = _without_properties(self._frame_buffer)
            if bare is None:
                raise
            return bare
        if value is None and _announced_size(self._frame_buffer) > spec.FRAME_MAX_SIZE:
            # Not AMQP; pika would buffer gigabytes waiting for the rest.
            raise exceptions.InvalidFrameError("a frame larger than AMQP allows")
        return consumed, value


def end_connection(connection: LinkConnection) -> None:
    """Close an open connection properly, abort one still opening; the close callback still comes.  Idempotent."""
    if connection.is_open:
        connection.close()
    elif not connection.is_closing:
        # Not close(): on an opening connection it fails an assertion in pika's connection workflow.
        abort_connection(connection)


def abort_connection(connection: LinkConnection) -> None:
    """Drop the TCP connection without telling the broker."""
    if not connection.is_closed:
        connection._terminate_stream(ConnectionAbortedError("closed by the link"))


def quieten_pika() -> None:
    """Suppress pika's logging on link threads: the link reports each cause once, in one line.

    Setting a level on the logger "pika" brings everything back.
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
