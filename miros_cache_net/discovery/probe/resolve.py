"""Resolves names to addresses, without ever blocking the event loop or the program's exit."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

from miros_cache_net import limits

#: (family, socket address), the latter as `socket.connect` takes it.
Address = tuple[int, Any]
#: Called with a name and a port, on a thread of its own; raises ``OSError`` or ``ValueError`` if there is no address.
LookUp = Callable[[str, int], list[Address]]

_NUMBERS_ONLY: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class Resolver:
    """For one event loop, on its thread.  Concurrent calls with equal arguments share one lookup."""

    def __init__(self, look_up: LookUp) -> None:
        self._look_up = look_up
        self._slots = asyncio.Semaphore(limits.LOOKUPS_AT_ONCE)
        self._asked: dict[tuple[str, int], asyncio.Future[list[Address]]] = {}

    async def resolve(self, host: str, port: int) -> list[Address]:
        """All addresses of `host`, in the system's order of preference; raises ``OSError`` or ``ValueError`` if none.

        Cancellation does not stop the lookup: its daemon thread ends when the system's resolver returns.
        """
        try:
            return _addresses(host, port, _NUMBERS_ONLY)
        except socket.gaierror:
            pass
        if (host, port) not in self._asked:
            await self._slots.acquire()
            if (host, port) in self._asked:  # Another task has started the lookup meanwhile.
                self._slots.release()
            else:
                self._ask(host, port)
        return await asyncio.shield(self._asked[host, port])

    def _ask(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        asked: asyncio.Future[list[Address]] = loop.create_future()
        self._asked[host, port] = asked

        def answered(answer: list[Address] | Exception) -> None:
            del self._asked[host, port]
            self._slots.release()
            if isinstance(answer, Exception):
                asked.set_exception(answer)
                asked.exception()  # Marks it as retrieved: asyncio would log it if no task waits any more.
            else:
                asked.set_result(answer)

        def look_up() -> None:
            answer: list[Address] | Exception
            try:
                answer = self._look_up(host, port)
            except (OSError, ValueError) as error:
                answer = error
            with contextlib.suppress(RuntimeError):  # The loop may have been closed meanwhile.
                loop.call_soon_threadsafe(answered, answer)

        threading.Thread(target=look_up, name=f"miros-cache-lookup-{host}", daemon=True).start()


def look_up_name(host: str, port: int) -> list[Address]:
    """The system's `LookUp`; may block as long as DNS does."""
    return _addresses(host, port, socket.AI_NUMERICSERV)


def _addresses(host: str, port: int, flags: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _type, _protocol, _name, address in found]
