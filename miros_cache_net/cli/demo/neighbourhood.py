"""Loopback addresses for the demo to discover: some lead to the broker, the others are typical of a LAN."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from types import TracebackType
from typing import Final

_WEB_PAGE: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


class Neighbourhood:
    """Five neighbours on one port, served by one thread, for the life of a ``with`` block.

    `candidates` maps each ``host:port`` to a description of what is there.
    """

    def __init__(self, broker_host: str, broker_port: int) -> None:
        self._broker = broker_host, broker_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="demo neighbourhood", daemon=True)
        self._servers: list[asyncio.Server] = []
        self.candidates: dict[str, str] = {}

    def __enter__(self) -> Neighbourhood:
        self._thread.start()
        port = _free_port()
        behaviours = {
            "127.0.0.11": (self._forward, "a machine with the broker"),
            "127.0.0.12": (self._forward, "a machine with the broker"),
            "127.0.0.13": (None, "refuses the connection"),
            "127.0.0.14": (_say_nothing, "accepts and stays silent"),
            "127.0.0.15": (_serve_web, "a web server, no AMQP"),
        }
        for address, (behaviour, words) in behaviours.items():
            if behaviour is not None:
                serving = asyncio.start_server(behaviour, address, port)
                self._servers.append(asyncio.run_coroutine_threadsafe(serving, self._loop).result(10))
            self.candidates[f"{address}:{port}"] = words
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, forth = await asyncio.open_connection(*self._broker)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, forth), _pump(back, writer), return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(65_536):
            pass
    writer.close()


async def _serve_web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        await reader.read(65_536)
        writer.write(_WEB_PAGE)
        await writer.drain()
    writer.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
