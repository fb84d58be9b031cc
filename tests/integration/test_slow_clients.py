"""Clients that send or read too slowly lose their connection, and nobody else's."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.platform import Platform, wait_until

pytestmark = pytest.mark.hostile("H")
IMPATIENT = {
    "ATELIER_HEADER_SECONDS": "1",
    "ATELIER_TRANSFER_GRACE_SECONDS": "1",
    "ATELIER_TRANSFER_BYTES_PER_SECOND": "1000",
}
POST = b"POST /toys/play HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
RESULT = 30_000_000  # bytes; more than all socket buffers hold


@pytest.fixture(scope="module")
def platform(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    platform = Platform(environment | IMPATIENT, tmp_path_factory.mktemp("logs"))
    try:
        yield platform.start()
    finally:
        platform.close()


@contextmanager
def connected(platform: Platform) -> Iterator[socket.socket]:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", platform.port))
        yield connection


def rest(connection: socket.socket) -> bytes:
    """All that the server still sends, until it closes."""
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        (b"GET /health HTTP/1.1\r\nHost: a\r\nX-Slow: ", "head"),
        (
            b"POST /toys/play HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
            "body",
        ),
        (
            b"POST /toys/play HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
            "body",
        ),
    ],
    ids=["head", "body", "chunks"],
)
def test_half_a_request_is_answered_with_408_and_the_next_one_works(
    platform: Platform, sent: bytes, field: str
) -> None:
    with connected(platform) as connection:
        connection.sendall(sent)
        head, _, body = rest(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"connection: close" in head.lower()
    problem = json.loads(body)
    assert (problem["status"], problem["error"]) == (408, "request_timeout")
    assert field in problem["message"]
    assert platform.client.get("/jobs").json()["jobs"] == [], "nothing is half-written"


def test_a_connection_without_a_request_is_closed(platform: Platform) -> None:
    with connected(platform) as connection:
        assert rest(connection) == b""


def test_a_kept_connection_may_make_a_second_request_but_not_half_of_one(platform: Platform) -> None:
    request = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    with connected(platform) as connection:
        connection.sendall(request)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        connection.sendall(request[:-10])
        assert rest(connection).rpartition(b"HTTP/1.1 ")[2].startswith(b"408")


def test_who_does_not_read_is_cut_off_and_resumes(platform: Platform) -> None:
    job = platform.submit(files=1, size=RESULT, seed=3)
    platform.finished(job)
    whole = platform.client.get(f"/results/{job}").content
    request = f"GET /results/{job} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    with connected(platform) as connection:
        connection.sendall(request)
        assert connection.recv(16)
        platform.client.get("/health").raise_for_status()
        gateway = psutil.Process(platform.processes["gateway"].pid)
        own = connection.getsockname()
        wait_until(lambda: all(held.raddr != own for held in gateway.net_connections("tcp")), what="the end of it")
    half = len(whole) // 2
    resumed = platform.client.get(f"/results/{job}", headers={"Range": f"bytes={half}-"})
    assert resumed.status_code == 206
    assert resumed.content == whole[half:]


def test_who_reads_steadily_gets_everything(platform: Platform) -> None:
    job = platform.submit(files=1, size=RESULT, seed=4)
    platform.finished(job)
    with connected(platform) as connection:
        connection.sendall(f"GET /results/{job} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        received = 0
        while part := connection.recv(8192):
            received += len(part)
    assert received > RESULT
