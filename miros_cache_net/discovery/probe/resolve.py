"""Names to addresses, without ever blocking the event loop or the exit of the program."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any, Final

from miros_cache_net import limits

#: (family, socket address) as `socket.connect` wants it.
Address = tuple[int, Any]

_NUMBERS_ONLY: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class Resolver:
    """For the use of one event loop, on its thread.  Equal questions at the same time share one lookup."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(limits.LOOKUPS_AT_ONCE)
        self._asked: dict[tuple[str, int], asyncio.Future[list[Address]]] = {}

    async def resolve(self, host: str, port: int) -> list[Address]:
        """All addresses of `host`, in the system's order of preference; ``OSError`` or ``ValueError`` if none.

        Cancelling it does not stop the lookup: its thread (a daemon) ends when the system's resolver does.
        """
        try:
            return _look_up(host, port, _NUMBERS_ONLY)
        except socket.gaierror:
            pass
        if (host, port) not in self._asked:
            await self._slots.acquire()
            if (host, port) in self._asked:  # somebody else's turn came first
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
                asked.exception()  # nobody may be waiting any more: that is no error worth a log
            else:
                asked.set_result(answer)

        def look_up() -> None:
            answer: list[Address] | Exception
            try:
                answer = _look_up(host, port, socket.AI_NUMERICSERV)
            except (OSError, ValueError) as error:
                answer = error
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(answered, answer)

        threading.Thread(target=look_up, name=f"miros-cache-lookup-{host}", daemon=True).start()


def _look_up(host: str, port: int, flags: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _type, _protocol, _name, address in found]
