"""A TCP forwarder to break: between a client and a server, it cuts, slows down, goes silent, or speaks TLS."""

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

    tls        speak TLS to clients, and what was inside to the server
    freeze_on  a connection on which these bytes come is silent from there on
    port       where it listens, the same for its whole life
    accepted   how many connections it has taken
    held       what has come while frozen
    """

    def __init__(
        self,
        target_port: int,
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        freeze_on: bytes = b"",
    ) -> None:
        self._target = host, target_port
        self._freeze_on = freeze_on
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="forwarder")
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
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
        """Cut every connection, and take no new one until `accept`."""
        self._on_loop(self._refuse())

    def accept(self) -> None:
        """Take connections again; nothing happens where it does."""
        self._on_loop(self._listen())

    def freeze(self) -> None:
        """Forward nothing more, without closing anything: what a dead router does."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def thaw(self) -> None:
        """Forward what was held, and what comes."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def slow_down(self, delay_s: float) -> None:
        """Hold back each piece for so long."""
        self._delay_s = delay_s

    def _on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _listen(self) -> None:
        self._flowing.set()
        if self._server is not None and self._server.is_serving():
            return
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

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
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            self._keep(asyncio.ensure_future(self._pump(source, sink)))
        if writer.is_closing():  # refused meanwhile
            far_writer.transport.abort()

    def _keep(self, task: asyncio.Task[None] | None) -> None:
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if self._freeze_on and self._freeze_on in data:
                    await asyncio.Event().wait()
                if not self._flowing.is_set():
                    self.held += data
                    await self._flowing.wait()
                await asyncio.sleep(self._delay_s)
                sink.write(data)
                await sink.drain()
        sink.close()
