"""Range and If-Range as RFC 9110 has them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, MutableMapping
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.gateway.results import ranges
from services.gateway.results.ranges import Part, Unsatisfiable, ranged_response, requested_part
from shared.errors import Unavailable

ETAG, SIZE = '"e"', 100
BODY = bytes(range(100))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, Part(0, 100, False)),
        ("bytes=0-", Part(0, 100, True)),
        ("bytes=10-19", Part(10, 20, True)),
        ("bytes=90-1000", Part(90, 100, True)),
        ("bytes=-5", Part(95, 100, True)),
        ("bytes=-500", Part(0, 100, True)),
        ("bytes=99-99", Part(99, 100, True)),
        ("bytes=5-4", Part(0, 100, False)),
        ("bytes=-", Part(0, 100, False)),
        ("bytes=a-b", Part(0, 100, False)),
        ("bytes=0-1,5-6", Part(0, 100, False)),
        ("lines=0-1", Part(0, 100, False)),
        ("bytes=" + "9" * 30 + "-", Part(0, 100, False)),
    ],
)
def test_which_part(header: str | None, expected: Part) -> None:
    headers = Headers({"range": header} if header else {})
    assert requested_part(headers, ETAG, SIZE) == expected


@pytest.mark.hostile("H")
@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_no_byte_of_it(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        requested_part(Headers({"range": header}), ETAG, SIZE)


@pytest.mark.parametrize(("if_range", "partial"), [('"e"', True), ('"other"', False), ('W/"e"', False), ("Sat", False)])
def test_if_range_must_be_the_strong_etag(if_range: str, partial: bool) -> None:
    headers = Headers({"range": "bytes=1-2", "if-range": if_range})
    assert requested_part(headers, ETAG, SIZE).partial is partial


class Reader:
    """Notes whether the chunks were closed."""

    closed = 0

    def __call__(self, start: int, end: int) -> Iterator[bytes]:
        try:
            for at in range(start, end, 10):
                yield BODY[at : min(at + 10, end)]
        finally:
            self.closed += 1


def ask(method: str, headers: dict[str, str], reader: Reader) -> httpx.Response:
    def endpoint(request: Request) -> Response:
        return ranged_response(
            request.method,
            request.headers,
            etag=ETAG,
            size=SIZE,
            media_type="application/zip",
            filename="résult.zip",
            read=reader,
        )

    async def call() -> httpx.Response:
        app = Starlette(routes=[Route("/", endpoint, methods=["GET", "HEAD"])])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client:
            return await client.request(method, "/", headers=headers)

    return asyncio.run(call())


def test_the_whole_with_its_exact_length() -> None:
    reader = Reader()
    answer = ask("GET", {}, reader)
    assert (answer.status_code, answer.content) == (200, BODY)
    assert answer.headers["content-length"] == "100"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"] == ETAG
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''r%C3%A9sult.zip"
    assert reader.closed == 1


def test_a_download_cut_at_any_byte_resumes_to_the_same() -> None:
    for cut in range(0, 100, 9):
        rest = ask("GET", {"range": f"bytes={cut}-", "if-range": ETAG}, Reader())
        assert rest.status_code == 206
        assert rest.headers["content-range"] == f"bytes {cut}-99/100"
        assert BODY[:cut] + rest.content == BODY


def test_head_304_and_416_send_no_body_and_read_nothing() -> None:
    reader = Reader()
    head = ask("HEAD", {}, reader)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "100", b"")
    assert ask("GET", {"if-none-match": 'W/"e"'}, reader).status_code == 304
    beyond = ask("GET", {"range": "bytes=100-"}, reader)
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */100")
    assert reader.closed == 0


@pytest.mark.parametrize("asked", ["bytes=10-19", "bytes=100-"])
def test_a_range_means_nothing_to_head(asked: str) -> None:
    head = ask("HEAD", {"range": asked}, Reader())
    assert (head.status_code, head.headers["content-length"]) == (200, "100")
    assert "content-range" not in head.headers


class Failing(Reader):
    """Gives so many chunks before it can go on no more."""

    def __init__(self, chunks: int) -> None:
        self.chunks = chunks

    def __call__(self, start: int, end: int) -> Iterator[bytes]:
        for number, chunk in enumerate(super().__call__(start, end)):
            if number == self.chunks:
                raise Unavailable("The storage cannot be read now.")
            yield chunk


@pytest.mark.parametrize("chunks", [0, 3])
def test_a_fault_before_the_first_byte_is_sent_is_an_error_of_its_own(chunks: int) -> None:
    reader = Failing(chunks)
    with pytest.raises(Unavailable):  # which the gateway's handler tells
        ask("GET", {}, reader)
    assert reader.closed == 1


def test_a_fault_in_the_middle_leaves_the_answer_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "HOP", 1)
    reader = Failing(3)
    with pytest.raises(AssertionError):  # httpx's, because the application returned before the answer was complete
        ask("GET", {}, reader)
    assert reader.closed == 1


def test_nothing_more_is_read_for_a_client_that_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "HOP", 1)
    reader, sent = Reader(), bytearray()
    answer = ranged_response(
        "GET", Headers(), etag=ETAG, size=SIZE, media_type="text/plain", filename="a", read=lambda *span: reader(*span)
    )

    async def call() -> None:
        gone = asyncio.Event()

        async def receive() -> dict[str, str]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:  # as a server does, which tells nobody
            sent.extend(message.get("body", b""))
            if len(sent) >= 20:
                gone.set()
            await asyncio.sleep(0)

        await answer({"type": "http", "method": "GET"}, receive, send)

    asyncio.run(call())
    assert reader.closed == 1
    assert len(sent) < 50
