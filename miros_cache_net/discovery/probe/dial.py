"""The first steps of a probe: from a name to a byte stream."""

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


async def resolve(progress: Progress, resolver: Resolver) -> list[Address]:
    """The first `limits.ADDRESSES_PER_NAME` addresses of the target's host.  Raises `Concluded`."""
    broker = progress.target.address
    try:
        return (await resolver.resolve(broker.host, broker.port))[: limits.ADDRESSES_PER_NAME]
    except (OSError, ValueError):
        raise Concluded(
            Verdict.UNRESOLVABLE, "its name resolves to no address: check its spelling, or the DNS"
        ) from None


async def dial(progress: Progress, address: Address) -> Stream:
    """Open a stream to the target at this address; stores the round trip in `progress`.  Raises `Concluded`."""
    sock = await _connect(progress, address)
    try:
        return await _open_stream(progress, sock)
    except BaseException:
        sock.close()
        raise


async def _connect(progress: Progress, address: Address) -> socket.socket:
    loop = asyncio.get_running_loop()
    family, where = address
    progress.begin(str(where[0]))
    try:
        # asyncio sets TCP_NODELAY only if TCP is named explicitly; with Nagle's delay a login takes 45 ms instead of 5.
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        began_s = loop.time()
        await _connect_one(sock, where)
        progress.round_trip_s = loop.time() - began_s
        return sock
    except OSError as error:
        raise _no_connection(error) from None


async def _connect_one(sock: socket.socket, address: Any) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    sock.setblocking(False)
    try:
        error = sock.connect_ex(address)
        if error == errno.EINPROGRESS:
            loop.add_writer(sock, _settle, ready)
            try:
                await ready
            finally:
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
        # On loopback, a client that dials an ephemeral port can connect to itself.
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
    return ssl.create_default_context()  # Cached, because it reads hundreds of certificates.
