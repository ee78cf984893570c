"""A TCP forwarder for faults between a client and a server: it cuts, delays, goes silent or deaf, or adds TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any


class TcpForwarder:
    """Forwards 127.0.0.1:`port` to `target_port` of `host`, on a thread of its own, while used as a context manager.

    tls        speak TLS to clients, and plain text to the server
    freeze_on  a connection goes silent once these bytes arrive on it
    idle_s     a connection without traffic in one direction for this many seconds is ended; None: never
    port       where it listens, the same for its whole life
    accepted   the number of connections accepted
    held       the bytes that have arrived while frozen
    """

    def __init__(
        self,
        target_port: int,
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        freeze_on: bytes = b"",
        idle_s: float | None = None,
    ) -> None:
        self._target = host, target_port
        self._freeze_on, self._idle_s = freeze_on, idle_s
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="forwarder")
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._flowing, self._answering = asyncio.Event(), asyncio.Event()
        self._delay_s = 0.0
        self.port = 0
        self.accepted = 0
        self.held = b""

    def __enter__(self) -> TcpForwarder:
        self._thread.start()
        self._on_loop(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on_loop(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def refuse(self) -> None:
        """Cut every connection, and accept no new one until `accept`."""
        self._on_loop(self._refuse())

    def accept(self) -> None:
        """Accept connections again; no effect if it already does."""
        self._on_loop(self._listen())

    def freeze(self) -> None:
        """Stop forwarding without closing anything, as a dead router does."""
        for event in (self._flowing, self._answering):
            self._loop.call_soon_threadsafe(event.clear)

    def freeze_answers(self) -> None:
        """Forward from clients to the server, but not back, without closing anything."""
        self._loop.call_soon_threadsafe(self._answering.clear)

    def thaw(self) -> None:
        """Forward the held bytes, and forward again from now on."""
        for event in (self._flowing, self._answering):
            self._loop.call_soon_threadsafe(event.set)

    def forget(self) -> None:
        """Stop forwarding on the existing connections without closing them; new ones work as before."""
        self._on_loop(self._forget())

    def slow_down(self, delay_s: float) -> None:
        """Delay each piece by `delay_s` seconds."""
        self._delay_s = delay_s

    def _on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _listen(self) -> None:
        self._flowing.set()
        self._answering.set()
        if self._server is not None and self._server.is_serving():
            return
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _forget(self) -> None:
        # Tasks that wait for the old events wait forever.
        self._flowing.clear()
        self._answering.clear()
        self._flowing, self._answering = asyncio.Event(), asyncio.Event()
        self._flowing.set()
        self._answering.set()

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._refuse()
        for writer in self._writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.add(writer)
        self._keep(asyncio.current_task())
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(far_writer)
        for source, sink, flowing in ((reader, far_writer, self._flowing), (far_reader, writer, self._answering)):
            self._keep(asyncio.ensure_future(self._pump(source, sink, flowing)))
        if writer.is_closing():  # refused in the meantime
            far_writer.transport.abort()

    def _keep(self, task: asyncio.Task[None] | None) -> None:
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            while data := await asyncio.wait_for(source.read(65536), self._idle_s):
                if self._freeze_on and self._freeze_on in data:
                    await asyncio.Event().wait()
                if not flowing.is_set():
                    self.held += data
                    await flowing.wait()
                await asyncio.sleep(self._delay_s)
                sink.write(data)
                await sink.drain()
        sink.close()
