"""ASGI middleware, one concern a class."""

from __future__ import annotations

import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.ids import new_id

SYNC = "/sync"
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
# The documentation's pages run scripts of ours, and one that is written into them.
PAGES = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
PAGES += "img-src 'self' data:; worker-src 'self' blob:; frame-ancestors 'none'"
PAGE_PATHS = ("/docs", "/redoc")


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
    """Every request gets an id, which its answer carries; every answer gets the security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        scope["request_id"] = str(new_id())
        scope["answer_headers"] = {}  # what routes want every answer to carry, refusals too

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = scope["request_id"]
                headers.update(scope["answer_headers"])
                if scope["path"].startswith(PAGE_PATHS):
                    headers["Content-Security-Policy"] = PAGES
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)


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
