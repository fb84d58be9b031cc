"""What kind of body a request says that it brings."""

from __future__ import annotations

from starlette.requests import Request


def content_type_of(request: Request, default: str = "") -> str:
    """The media type of Content-Type, without its parameters; `default` if there is none."""
    return request.headers.get("content-type", default).split(";")[0].strip().lower()
