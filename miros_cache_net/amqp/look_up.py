"""Resolves host names on a daemon thread, so that neither the link nor program exit waits for DNS."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

from pika.adapters.select_connection import IOLoop
from pika.adapters.utils.nbio_interface import AbstractIOReference

#: Like `socket.getaddrinfo`; may block as long as DNS does.
GetAddrInfo = Callable[..., list[Any]]


class LookUp(AbstractIOReference):  # type: ignore[misc]
    """One look-up; its result or exception is delivered on the loop's thread, unless cancelled first."""

    def __init__(self, loop: IOLoop, getaddrinfo: GetAddrInfo, on_done: Callable[[Any], object]) -> None:
        self._loop, self._getaddrinfo = loop, getaddrinfo
        self._on_done: Callable[[Any], object] | None = on_done

    def start(self, name: str, *arguments: Any) -> None:
        threading.Thread(target=self.run, args=arguments, name=name, daemon=True).start()

    def run(self, *arguments: Any) -> None:
        result: Any
        try:
            result = self._getaddrinfo(*arguments)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that IDNA cannot hold
            result = error
        if self._on_done is not None:
            self._loop.add_callback_threadsafe(lambda: self._report(result))

    def cancel(self) -> bool:
        pending, self._on_done = self._on_done is not None, None
        return pending

    def _report(self, result: Any) -> None:
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            on_done(result)


def numeric_hosts(found: Iterable[Any]) -> list[str]:
    """The distinct addresses in `getaddrinfo`'s answer, in order, with a zone where needed."""
    flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    return list(dict.fromkeys(socket.getnameinfo(address, flags)[0] for *_, address in found))
