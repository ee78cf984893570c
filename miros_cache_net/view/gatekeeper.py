"""Who may see the page: on loopback any browser of this machine, elsewhere anyone with the token."""

from __future__ import annotations

import hmac
from html import escape
from http.cookies import SimpleCookie
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

COOKIE: Final = "miros_cache_net_view"
#: The form has one short field.
_FORM_BYTES: Final = 4096
_NOT_FOR_STRANGERS: Final = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
}
#: What the login page needs, and the supervisor's probe: neither reveals anything about the fleet.
_OPEN: Final = frozenset({"/page.css", "/healthz"})


class Gatekeeper:
    """Guards the page.

    Requests whose Host header is not one of `hosts` are refused, against DNS rebinding: a stranger's page whose name
    resolves to this address sends its own name.  The page is read-only: only the token is ever posted.

    hosts  names and addresses under which the page may be requested; None: any, because a token guards it
    token  what a visitor must show; None on loopback
    login  the page that asks for it; ``{said}`` is replaced by the answer to a wrong token
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None, token: str | None, login: str) -> None:
        self._app, self._hosts, self._token, self._login = app, hosts, token, login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)

        async def send_guarded(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                headers = message.setdefault("headers", [])
                assert isinstance(headers, list)
                headers.extend(_NOT_FOR_STRANGERS.items())
            await send(message)

        response = await self._refusal(request)
        await (response or self._app)(scope, receive, send_guarded)  # type: ignore[arg-type]

    async def _refusal(self, request: Request) -> Response | None:
        if self._hosts is not None and (request.url.hostname or "") not in self._hosts:
            return PlainTextResponse(
                "this page is served only under the names of this machine's loopback address\n", 403
            )
        if self._token is None:
            return None if request.method in ("GET", "HEAD") else PlainTextResponse("read-only\n", 405)
        if request.method == "POST" and request.url.path == "/login":
            return await self._logged_in(request)
        if self._shows_token(request):
            return None if request.method in ("GET", "HEAD") else PlainTextResponse("read-only\n", 405)
        if request.url.path in ("/", "/login"):
            return self._ask("", 401)
        return None if request.url.path in _OPEN else PlainTextResponse("the token is missing or wrong\n", 401)

    def _shows_token(self, request: Request) -> bool:
        kept = SimpleCookie(request.headers.get("cookie", "")).get(COOKIE)
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        return any(self._is_token(each) for each in (kept.value if kept else "", bearer))

    def _is_token(self, said: str) -> bool:
        return hmac.compare_digest(said.encode(), (self._token or "").encode())

    async def _logged_in(self, request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _FORM_BYTES:
                return PlainTextResponse("too large\n", 413)
        said = parse_qs(body.decode("ascii", "replace")).get("token", [""])[0].strip()
        if not self._is_token(said):
            return self._ask("That is not the token. The terminal in which view runs shows it.", 401)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, said, httponly=True, samesite="strict", path="/")
        return answer

    def _ask(self, said: str, status: int) -> Response:
        return HTMLResponse(self._login.replace("{said}", escape(said)), status)
