"""Server-sent events: each page gets the newest picture, however slowly its browser reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from miros_cache_net import limits

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
#: A keep-alive line: without one, a closed browser would go unnoticed while there is nothing new.
_BEAT_S: Final = 10.0


class Latest:
    """The newest picture and the plots so far; call all methods on the event loop."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self._number = 0
        self._over = False
        self._picture = ""
        self._plots: Any = []

    def show(self, picture: Any, plots: Any) -> None:
        """Replace the picture."""
        self._picture, self._plots = _event("fleet", picture), plots
        self._number += 1
        self._news.set()
        self._news = asyncio.Event()

    def close(self) -> None:
        """End every stream: there will be no more pictures."""
        self._over = True
        self._news.set()

    async def events(self) -> AsyncIterator[str]:
        """The plots once, then pictures; a busy reader skips to the newest."""
        shown = 0
        while not self._over:
            if self._number == shown:
                try:
                    await asyncio.wait_for(self._news.wait(), _BEAT_S)
                except asyncio.TimeoutError:
                    yield ": still here\n\n"
                continue
            if not shown:
                yield _event("plots", self._plots)
            shown = self._number
            yield self._picture


class EventStream:
    """The response to one page: `latest` until the browser goes away or stops reading.

    leave  called once, at the end of the response
    """

    def __init__(self, latest: Latest, leave: Callable[[], None]) -> None:
        self._latest, self._leave = latest, leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send_all(send))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, gone):
                task.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)
            self._leave()

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        async for text in self._latest.events():
            body = {"type": "http.response.body", "body": text.encode(), "more_body": True}
            await asyncio.wait_for(send(body), limits.VIEW_STALLED_S)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(name: str, value: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(value, allow_nan=False, default=str)}\n\n"
