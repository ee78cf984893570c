"""Serves the page until a signal."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from miros_cache_net.errors import CacheNetError


class NoPort(CacheNetError):
    """The page's address is in use, or does not belong to this machine."""


def listening(host: str, port: int) -> socket.socket:
    """A socket for the page.  Raises `NoPort`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise NoPort(f"cannot listen on {host} port {port}: {why}; choose another port with --port (0: any)") from error
    return listener


def serve(
    app: ASGIApp, listener: socket.socket, begun: Callable[[], None], ending: Callable[[], None]
) -> None:  # fmt: skip
    """Serve `app` on `listener` until SIGINT or SIGTERM.

    `begun` is called once the server answers; `ending` is called at the signal, to end the open streams.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=2,
    )
    _Announced(config, begun, ending).run(sockets=[listener])


class _Announced(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, begun: Callable[[], None], ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._begun, self._ending = begun, ending

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._ending()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._begun()
