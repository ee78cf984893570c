"""The page as an ASGI application: static files, pictures of charts, and a stream of events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from miros_cache_net import limits
from miros_cache_net.errors import BrokerError, ChartError
from miros_cache_net.settings import Settings
from miros_cache_net.view.diagram.outline import mermaid_text
from miros_cache_net.view.diagram.svg import svg_text
from miros_cache_net.view.gatekeeper import Gatekeeper
from miros_cache_net.view.pictures import CHARTS, picture_of, words_of
from miros_cache_net.view.stream import EventStream, Latest
from miros_cache_net.view.watcher import Watcher

_KINDS: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_PID_DIGITS: Final = 12
_TOO_MANY: Final = (
    f"{limits.VIEW_PAGES} pages are open already; close some, and this one connects by itself (a hidden tab uses none)"
)


class Page:
    """The application and its resources.

    settings, file_path  identify the fleet to show
    hosts, token         see `Gatekeeper`
    """

    def __init__(self, settings: Settings, file_path: Path, hosts: frozenset[str] | None, token: str | None) -> None:
        self._latest = Latest()
        self._open = 0
        #: A scrape opens a link, so concurrent scrapes take turns.
        self._one_scrape = asyncio.Lock()
        self._watcher = Watcher(settings, file_path, self._seen)
        self._loop: asyncio.AbstractEventLoop | None = None
        inner = Starlette(
            routes=[
                Route("/", _file("index.html")),
                *(Route(f"/{name}", _file(name)) for name in ("page.css", "page.js", "plots.js", "icon.svg")),
                Route("/charts", lambda _: JSONResponse(list(CHARTS))),
                Route("/charts/{name}.svg", _picture),
                Route("/seen.svg", self._seen_chart),
                Route("/events", self._events),
                Route("/metrics", self._metrics),
                Route("/healthz", lambda _: PlainTextResponse("alive\n")),
            ],
            lifespan=self._running,
        )
        #: The ASGI application.
        self.app: ASGIApp = Gatekeeper(inner, hosts, token, _text("login.html"))

    @contextlib.asynccontextmanager
    async def _running(self, _app: Starlette) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        self._watcher.start()
        try:
            yield
        finally:
            await run_in_threadpool(self._watcher.stop)

    def _seen(self, picture: Any, plots: Any) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the event loop has ended, and every page with it
            self._loop.call_soon_threadsafe(self._latest.show, picture, plots)

    def close(self) -> None:
        """End the streams of all open pages, so that the server can shut down; from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._latest.close)

    async def _seen_chart(self, request: Request) -> Response:
        """A user's chart, inferred from its steps."""
        asked = request.query_params
        process = asked.get("pid", "")
        number = int(process) if process.isdecimal() and len(process) < _PID_DIGITS else 0
        diagram = self._watcher.diagram(asked.get("node", ""), number, asked.get("chart", ""))
        if diagram is None:
            return PlainTextResponse("there is no such chart\n", 404)
        try:
            return Response(await run_in_threadpool(svg_text, diagram), media_type="image/svg+xml")
        except ChartError as error:
            return PlainTextResponse(f"{error}\n\n{mermaid_text(diagram)}", 422)

    async def _metrics(self, _request: Request) -> Response:
        try:
            from miros_cache_net.view.metrics_of_fleet import fleet_text
        except ImportError:
            return PlainTextResponse("metrics need prometheus_client: pip install 'miros-cache-net[metrics]'\n", 501)
        async with self._one_scrape:
            try:
                text = fleet_text(await run_in_threadpool(self._watcher.statuses))
            except BrokerError as error:
                return PlainTextResponse(f"{error}\n", 503)
        return Response(text, media_type="text/plain; version=0.0.4")

    async def _events(self, request: Request) -> Response | EventStream:
        if self._open >= limits.VIEW_PAGES:
            return PlainTextResponse(_TOO_MANY, 503)
        if request.method == "HEAD":  # a page asks why its stream was refused
            return Response(status_code=204)
        self._open += 1
        self._watcher.enter()
        return EventStream(self._latest, self._left)

    def _left(self) -> None:
        self._open -= 1
        self._watcher.leave()


def _text(name: str) -> str:
    return (files("miros_cache_net.view") / "page" / name).read_text(encoding="utf-8")


def _file(name: str) -> Callable[[Request], Response]:
    text = _text(name)
    kind = _KINDS[name.rpartition(".")[2]]
    return lambda _request: Response(text, media_type=kind, headers={"cache-control": "no-cache"})


async def _picture(request: Request) -> Response:
    name = request.path_params["name"]
    try:
        drawn = await run_in_threadpool(picture_of, name)
    except ChartError as error:
        return PlainTextResponse(words_of(name, error), 422)
    if drawn is None:
        return PlainTextResponse("there is no such chart\n", 404)
    return Response(drawn, media_type="image/svg+xml")
