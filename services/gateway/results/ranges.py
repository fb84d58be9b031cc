"""Range requests on one representation (RFC 9110 §13 and §14): which bytes a client is to get."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.gateway.leaving import until_left
from shared.errors import AtelierError

HOP = 384 * 1024  # bytes at least that one thread hop brings: a small header needs none of its own
RANGE = re.compile(r"bytes\s*=\s*(\d{0,19})-(\d{0,19})")


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes [start, end) of `size`; `partial` makes it a 206."""

    start: int
    end: int
    partial: bool


class Unsatisfiable(Exception):
    """No byte of the range exists: 416."""


def requested_part(headers: Headers, etag: str, size: int) -> Part:
    """What the Range and If-Range headers ask for.

    A malformed Range is ignored, and so is one with several ranges (§14.2 allows it): the answer is the whole. A range
    under an If-Range that is not exactly our strong ETag is ignored too. Raises Unsatisfiable.
    """
    whole = Part(0, size, False)
    match = RANGE.fullmatch(headers.get("range", "").strip())
    if match is None or match.group(0).endswith("=-") or match.groups() == ("", ""):
        return whole
    if headers.get("if-range", etag) != etag:
        return whole
    first, last = match.groups()
    if not first:
        if int(last) == 0 or size == 0:
            raise Unsatisfiable
        return Part(max(0, size - int(last)), size, True)
    start, end = int(first), min(size, int(last) + 1) if last else size
    if last and int(last) < start:
        return whole
    if start >= size:
        raise Unsatisfiable
    return Part(start, end, True)


def not_modified(headers: Headers, etag: str) -> bool:
    """Whether If-None-Match names this ETag (weak comparison, §13.1.2)."""
    named = [tag.strip().removeprefix("W/") for tag in headers.get("if-none-match", "").split(",")]
    return etag in named or "*" in named


def ranged_response(
    method: str,
    headers: Headers,
    *,
    etag: str,
    size: int,
    media_type: str,
    filename: str,
    read: Callable[[int, int], Iterator[bytes]],
) -> Response:
    """200, 206, 304 or 416 with exact lengths; `read(start, end)` is opened only when bytes are sent.

    An AtelierError of `read` is the answer if it comes before the first byte, and breaks the answer off after it.
    """
    common = {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(filename)}",
    }
    if not_modified(headers, etag):
        return Response(status_code=304, headers=common)
    try:
        part = requested_part(headers, etag, size) if method == "GET" else Part(0, size, False)  # §14.2
    except Unsatisfiable:
        return Response(status_code=416, headers=common | {"Content-Range": f"bytes */{size}"})
    common["Content-Length"] = str(part.end - part.start)
    if part.partial:
        common["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{size}"
    status = 206 if part.partial else 200
    if method == "HEAD":
        return Response(status_code=status, headers=common, media_type=media_type)
    return ChunkResponse(lambda: read(part.start, part.end), status, common, media_type)


class ChunkResponse(Response):
    """Sends a blocking iterator's chunks, about HOP bytes a thread hop, and closes it however the transfer ends.

    Nothing more is read for a client that has left.
    """

    def __init__(
        self, chunks: Callable[[], Iterator[bytes]], status: int, headers: dict[str, str], media_type: str
    ) -> None:
        self._chunks = chunks
        self.status_code, self.media_type, self.background = status, media_type, None
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        chunks, leaving = self._chunks(), asyncio.create_task(until_left(receive))
        try:
            some = await run_in_threadpool(_take, chunks)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            try:
                while some:
                    while some:
                        await send({"type": "http.response.body", "body": some.popleft(), "more_body": True})
                    # A slow reader's connection holds them still: no more of them until they have gone.
                    await send({"type": "http.response.body", "body": b"", "more_body": True})
                    if leaving.done():
                        return
                    some = await run_in_threadpool(_take, chunks)
            except AtelierError:  # told in the log already; the server closes a connection whose answer has no end
                return
        finally:
            leaving.cancel()
            await run_in_threadpool(getattr(chunks, "close", lambda: None))
        await send({"type": "http.response.body", "body": b""})


def _take(chunks: Iterator[bytes]) -> deque[bytes]:
    """The next chunks, HOP bytes or a little more; none at the end."""
    taken: deque[bytes] = deque()
    size = 0
    while size < HOP and (chunk := next(chunks, b"")):
        taken.append(chunk)
        size += len(chunk)
    return taken
