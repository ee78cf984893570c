"""The first steps of a probe: from a name to a stream of bytes."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import socket
import ssl
from typing import Any, Final

from miros_cache_net import limits
from miros_cache_net.discovery.probe.progress import Concluded, Progress
from miros_cache_net.discovery.probe.resolve import Address, Resolver
from miros_cache_net.discovery.probe.verdict import Verdict

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_REFUSING: Final = (errno.ECONNREFUSED, errno.ECONNRESET)
_OUT_OF_FILES: Final = (errno.EMFILE, errno.ENFILE)


async def dial(progress: Progress, resolver: Resolver) -> Stream:
    """A stream to the target; leaves address and round trip in `progress`.  Raises `Concluded`."""
    addresses = await _resolve(progress, resolver)
    sock = await _connect(progress, addresses)
    try:
        return await _open_stream(progress, sock)
    except BaseException:
        sock.close()
        raise


async def _resolve(progress: Progress, resolver: Resolver) -> list[Address]:
    broker = progress.target.address
    try:
        return (await resolver.resolve(broker.host, broker.port))[: limits.ADDRESSES_PER_NAME]
    except (OSError, ValueError):
        raise Concluded(Verdict.UNRESOLVABLE, "its name has no address: check its spelling, or the DNS") from None


async def _connect(progress: Progress, addresses: list[Address]) -> socket.socket:
    """The first that takes a connection; each is given an equal share of the time that is left."""
    loop = asyncio.get_running_loop()
    end = progress.if_late = Concluded(Verdict.SILENT, "nothing answers the connection attempt")
    deadline_s = loop.time() + progress.target.timeout_s
    for nth, (family, address) in enumerate(addresses):
        progress.dialled = str(address[0])
        share_s = (deadline_s - loop.time()) / (len(addresses) - nth)
        try:
            # asyncio switches Nagle's delay off only where TCP is named; with it a login takes 45 ms instead of 5
            sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            began_s = loop.time()
            await _connect_one(sock, address, share_s)
            progress.round_trip_s = loop.time() - began_s
            return sock
        except OSError as error:
            end = _no_connection(error)
    raise end


async def _connect_one(sock: socket.socket, address: Any, timeout_s: float) -> None:
    """By hand: `asyncio.wait_for` can lose a cancellation that comes together with the result (Python < 3.12)."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    sock.setblocking(False)
    try:
        error = sock.connect_ex(address)
        if error == errno.EINPROGRESS:
            loop.add_writer(sock, _settle, ready)
            timer = loop.call_later(timeout_s, _settle, ready)
            try:
                await ready
            finally:
                timer.cancel()
                loop.remove_writer(sock)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        _check_peer(sock)
    except BaseException:
        sock.close()
        raise


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _check_peer(sock: socket.socket) -> None:
    try:
        peer = sock.getpeername()
    except OSError:
        raise OSError(errno.ETIMEDOUT, "not connected in time") from None
    if peer == sock.getsockname():
        # on loopback, a client that dials a port of the clients' range can meet itself
        raise OSError(errno.ECONNREFUSED, "nobody listens but oneself")


def _no_connection(error: OSError) -> Concluded:
    if error.errno in _REFUSING:
        return Concluded(Verdict.REFUSED, "nothing listens on that port")
    if error.errno == errno.ETIMEDOUT:
        return Concluded(Verdict.SILENT, "nothing answers the connection attempt")
    if error.errno in _OUT_OF_FILES:
        return Concluded(Verdict.NO_ROUTE, "this process has no file descriptor left: raise `ulimit -n`")
    return Concluded(
        Verdict.NO_ROUTE, f"no packet gets there ({errno.errorcode.get(error.errno or 0, 'unknown error')})"
    )


async def _open_stream(progress: Progress, sock: socket.socket) -> Stream:
    target = progress.target
    if not target.address.tls:
        return await asyncio.open_connection(sock=sock)
    context = target.tls_context or _default_context()
    progress.if_late = Concluded(Verdict.SILENT, "it takes connections, but does not answer in TLS")
    try:
        return await asyncio.open_connection(sock=sock, ssl=context, server_hostname=target.address.host)
    except ssl.SSLCertVerificationError as error:
        raise Concluded(Verdict.TLS_MISMATCH, f"its certificate is not accepted: {error.verify_message}") from None
    except OSError:
        raise Concluded(Verdict.TLS_MISMATCH, "it does not speak TLS: use amqp://, or its TLS port") from None


@functools.lru_cache(maxsize=1)
def _default_context() -> ssl.SSLContext:
    return ssl.create_default_context()  # reads hundreds of certificates: once is enough
