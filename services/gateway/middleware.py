"""ASGI middleware, one concern a class."""

from __future__ import annotations

import asyncio
import re
import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from services.gateway.errors import problem
from shared.errors import AtelierError, Unavailable
from shared.ids import new_id
from shared.logging import get_logger

log = get_logger(__name__)
SYNC = "/sync"
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
# The documentation's pages run scripts of ours, and one that is written into them.
PAGES = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
PAGES += "img-src 'self' data:; worker-src 'self' blob:; base-uri 'none'; frame-ancestors 'none'"
PAGE_PATHS = {"/docs", "/docs/oauth2-redirect", "/redoc"}
STATIC = "/static-offline-docs/"  # the same for everybody: browsers may keep it
# What a client may call its request: an id of any usual kind, and nothing that a key or a token looks like.
CLIENTS_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{7,63}")


class SyncBasePath:
    """Under /sync every route is the same, but waits by default: existing clients change their base URL only."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["path"] == SYNC or scope["path"].startswith(SYNC + "/")):
            path = scope["path"][len(SYNC) :] or "/"
            scope = {**scope, "path": path, "raw_path": path.encode(), "waits_by_default": True}
        await self._app(scope, receive, send)


class RequestIds:
    """Every request has an id, its own or the one its client gave it: in its answer and in its log lines."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        own_id = new_id()
        scope["own_id"] = own_id  # and its job's, if it makes one
        scope["request_id"] = request_id = _clients_id(scope) or str(own_id)
        bind_contextvars(request_id=request_id)

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        await self._app(scope, receive, with_id)


def _clients_id(scope: Scope) -> str | None:
    given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"]
    return given[0] if len(given) == 1 and CLIENTS_ID.fullmatch(given[0]) else None


class AnswerHeaders:
    """Every answer has the security headers, and nobody keeps it unless its route says so.

    Behind TLS browsers are told to stay with it for `hsts_seconds` (0: they are not told).
    """

    def __init__(self, app: ASGIApp, hsts_seconds: int) -> None:
        self._app, self._hsts = app, f"max-age={hsts_seconds}" if hsts_seconds else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        scope["answer_headers"] = {}  # what routes want every answer to carry, refusals too
        path = scope["path"].removeprefix(SYNC)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(scope["answer_headers"])
                if path in PAGE_PATHS:
                    headers["Content-Security-Policy"] = PAGES
                if path.startswith(STATIC) and message["status"] in (200, 304):
                    headers.setdefault("Cache-Control", "public, max-age=3600")
                if self._hsts and scope["scheme"] == "https":
                    headers["Strict-Transport-Security"] = self._hsts
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)


class AccessLog:
    """One line a request: its path without the query, which may hold secrets."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status = time.perf_counter(), 0

        async def noticed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noticed)
        finally:
            milliseconds = round((time.perf_counter() - began) * 1000, 1)
            client = scope["client"][0] if scope["client"] else None
            said = {"method": scope["method"], "path": scope["path"], "status": status or None, "ms": milliseconds}
            log.info("request", client=client, **said)


class UnexpectedErrors:
    """A bug of ours is logged and told as 500 without its text; an answer that has begun is cut off. A gateway that
    stops cancels what takes too long, and that is told, too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begun = False

        async def noticed(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noticed)
        except asyncio.CancelledError:
            if not begun:
                stopping = Unavailable("This gateway is stopping; try again.", headers={"Retry-After": "1"})
                await problem(stopping, scope["request_id"])(scope, receive, send)
            raise
        except Exception as error:
            log.error("unexpected error", method=scope["method"], path=scope["path"], exc_info=error)
            if not begun:
                told = AtelierError("An unexpected error; the log has it under this request's id.")
                await problem(told, scope["request_id"])(scope, receive, send)


class RequestCounts:
    """Counts requests by route template and status, and times them to the start of their answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        counters = scope["app"].state.gateway.counters
        began = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "unknown")
                counters.requests.labels(scope["method"], route, message["status"]).inc()
                counters.seconds.labels(route).observe(time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, counted)
