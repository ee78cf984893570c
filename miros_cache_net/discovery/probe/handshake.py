"""A minimal AMQP 0-9-1 client on one stream, as much as a probe needs.

Not pika's client, because the connection that shows the banner must be the one on which the password is sent or
withheld, and because input from an unknown server must be bounded before anything decodes it.
"""

from __future__ import annotations

import asyncio
import re
import struct
from typing import Any, Final

from pika import frame as pika_frame
from pika import spec

from miros_cache_net import limits

_FRAME_KINDS: Final = (spec.FRAME_METHOD, spec.FRAME_HEADER, spec.FRAME_BODY, spec.FRAME_HEARTBEAT)
_TLS_ALERT: Final = b"\x15\x03"
_CHANNEL: Final = 1


class Garbled(Exception):
    """The input is not AMQP 0-9-1; `looks_like` says what it seems to be instead."""

    def __init__(self, looks_like: str) -> None:
        super().__init__(looks_like)
        self.looks_like = looks_like


class TLSOnly(Exception):
    """The server answered in TLS."""


class Closed(Exception):
    """The server closed the connection or channel; `code` is its AMQP reply code, 0 if it only hung up."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Handshake:
    """Each method is one step and must follow the one above it.

    All raise `Garbled`, `TLSOnly`, `Closed`, or `OSError` (including ``ssl.SSLError``).  The steps have no time limit;
    the caller sets one.  The greeting may take `limits.BANNER_BYTES`, everything after it as many again.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._budget = limits.BANNER_BYTES
        #: Whether any byte has arrived.
        self.heard = False
        self._early: list[bytes] = []

    async def greet(self) -> Greeting:
        self._writer.write(pika_frame.ProtocolHeader().marshal())
        start = await self._expect(spec.Connection.Start)
        self._budget = limits.BANNER_BYTES
        return Greeting(start)

    async def login(self, mechanism: str, response: str) -> None:
        self._send(
            0,
            spec.Connection.StartOk(
                # Without this, RabbitMQ answers a wrong password by closing the socket after 3 s, without a reason.
                client_properties={"capabilities": {"authentication_failure_close": True}},
                mechanism=mechanism,
                response=response,
                locale="en_US",
            ),
        )
        tune = await self._expect(spec.Connection.Tune)
        self._send(0, spec.Connection.TuneOk(channel_max=_CHANNEL, frame_max=tune.frame_max, heartbeat=0))

    async def open_vhost(self, vhost: str) -> None:
        self._send(0, spec.Connection.Open(virtual_host=vhost))
        await self._expect(spec.Connection.OpenOk)

    async def find_exchange(self, exchange: str) -> None:
        """Check that `exchange` exists; a passive declare creates nothing."""
        self._send(_CHANNEL, spec.Channel.Open())
        await self._expect(spec.Channel.OpenOk)
        self._send(_CHANNEL, spec.Exchange.Declare(exchange=exchange, passive=True))
        await self._expect(spec.Exchange.DeclareOk)

    async def listen(self) -> str:
        """Consume from a new exclusive queue, which ends with the connection; returns its name."""
        self._send(_CHANNEL, spec.Queue.Declare(exclusive=True, auto_delete=True))
        declared = await self._expect(spec.Queue.DeclareOk)
        self._send(_CHANNEL, spec.Basic.Consume(queue=declared.queue, no_ack=True))
        await self._expect(spec.Basic.ConsumeOk)
        return str(declared.queue)

    async def publish(self, exchange: str, key: str, body: bytes, properties: spec.BasicProperties) -> bool:
        """Publish a message; returns whether it was routed to a queue."""
        self._send(_CHANNEL, spec.Basic.Publish(exchange=exchange, routing_key=key, mandatory=True))
        self._writer.write(pika_frame.Header(_CHANNEL, len(body), properties).marshal())
        self._writer.write(pika_frame.Body(_CHANNEL, body).marshal())
        # The broker returns an unroutable message before it answers the request that follows it.
        self._send(_CHANNEL, spec.Exchange.Declare(exchange=exchange, passive=True))
        while True:
            method = await self._expect((spec.Basic.Return, spec.Basic.Deliver, spec.Exchange.DeclareOk))
            if isinstance(method, spec.Basic.Return):
                return False
            if isinstance(method, spec.Exchange.DeclareOk):
                return True
            self._early.append(await self._content())

    async def answer(self) -> bytes:
        """The body of the next message from the queue of `listen`."""
        if self._early:
            return self._early.pop(0)
        while not isinstance(await self._expect((spec.Basic.Deliver, spec.Exchange.DeclareOk)), spec.Basic.Deliver):
            pass
        return await self._content()

    async def close(self) -> None:
        self._send(0, spec.Connection.Close(reply_code=200, reply_text="", class_id=0, method_id=0))
        await self._expect(spec.Connection.CloseOk)

    def _send(self, channel: int, method: Any) -> None:
        self._writer.write(pika_frame.Method(channel, method).marshal())

    async def _content(self) -> bytes:
        """The message body that follows a delivery's method frame."""
        header = await self._frame()
        size, body = getattr(header, "body_size", 0), b""
        while len(body) < size:
            fragment = getattr(await self._frame(), "fragment", b"")
            if not fragment:
                raise Garbled("AMQP frames out of order")
            body += fragment
        return body

    async def _expect(self, wanted: type[Any] | tuple[type[Any], ...]) -> Any:
        while True:
            method = await self._method()
            if isinstance(method, wanted):
                return method
            if isinstance(method, spec.Connection.Close | spec.Channel.Close):
                if isinstance(method, spec.Connection.Close):
                    self._send(0, spec.Connection.CloseOk())
                raise Closed(method.reply_code)
            if method is not None:
                raise Garbled("AMQP frames out of order")

    async def _method(self) -> Any:
        """The next frame's method; None if the frame carries none (a heartbeat)."""
        return getattr(await self._frame(), "method", None)

    async def _frame(self) -> Any:
        head = await self._take(spec.FRAME_HEADER_SIZE)
        kind, _channel, size = struct.unpack(">BHI", head)
        if kind not in _FRAME_KINDS:
            raise _stranger(head)
        rest = await self._take(size + spec.FRAME_END_SIZE)
        try:
            _consumed, frame = pika_frame.decode_frame(head + rest)
        except Exception as error:  # pika's decoder lets errors of struct, codecs, datetime and recursion through.
            raise Garbled("damaged AMQP frames") from error
        return frame

    async def _take(self, count: int) -> bytes:
        if count > self._budget:
            raise Garbled("a server that talks without end")
        self._budget -= count
        taken = b""
        while len(taken) < count:
            more = await self._reader.read(count - len(taken))
            if not more:
                raise _stranger(taken) if taken else Closed(0)
            self.heard = True
            taken += more
        return taken


class Greeting:
    """A server's description of itself, sent before the login."""

    def __init__(self, start: Any) -> None:
        properties = start.server_properties
        self.product = _printable(properties.get("product"))
        self.version = _printable(properties.get("version"))
        # Matched with a pattern, because pika returns the repr of a bytes object: b'AMQPLAIN PLAIN'.
        self.mechanisms = frozenset(re.findall(r"[A-Z0-9-]+", str(start.mechanisms)))


def _printable(value: object) -> str:
    """Text from an unknown server, truncated and without control characters, so that terminals and logs are safe."""
    return re.sub(r"[^\x20-\x7e]", "?", value)[:40] if isinstance(value, str) else ""


def _stranger(first_bytes: bytes) -> Exception:
    if first_bytes.startswith(_TLS_ALERT):
        return TLSOnly()
    if first_bytes.startswith(b"AMQP"):
        return Garbled("AMQP, but not version 0-9-1")
    if first_bytes.startswith(b"HTTP"):
        return Garbled("an HTTP server")
    return Garbled("no AMQP server")
