"""Answers that come before a request's body has: their clients hear them, and know whether the connection goes on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.platform import Platform, wait_until

pytestmark = pytest.mark.hostile("H")
MB = 1_000_000
JSON = b"POST /toys/play HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
NEXT = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def platform(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    platform = Platform(environment, tmp_path_factory.mktemp("logs"))
    try:
        yield platform.start("gateway")
    finally:
        platform.close()


@contextmanager
def connected(platform: Platform) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", platform.port), 60) as connection:
        yield connection


def answer(connection: socket.socket) -> tuple[bytes, dict[bytes, bytes]]:
    """The status and the headers of the next answer, whose body is read as well."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += _more(connection)
    head, body = got.split(b"\r\n\r\n", 1)
    status, *lines = head.split(b"\r\n")
    headers = {name.lower(): value for name, value in (line.split(b": ", 1) for line in lines)}
    while len(body) < int(headers[b"content-length"]):
        body += _more(connection)
    return status.split()[1], headers


def _more(connection: socket.socket) -> bytes:
    part = connection.recv(65_536)
    assert part, "closed before the answer's end"
    return part


def test_who_sends_all_before_reading_hears_the_answer(platform: Platform) -> None:
    with connected(platform) as connection:
        connection.sendall(JSON + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % (15 * MB))
        for _ in range(15):
            connection.sendall(bytes(MB))
        status, headers = answer(connection)
        assert (status, headers[b"connection"]) == (b"413", b"close")
        assert connection.recv(1) == b"", "the connection ends, and is not reset"


def test_a_connection_outlives_a_body_that_was_not_wanted(platform: Platform) -> None:
    with connected(platform) as connection:
        connection.sendall(JSON + b"Content-Length: %d\r\n\r\n" % (3 * MB))
        status, headers = answer(connection)
        assert (status, headers.get(b"connection")) == (b"413", None)
        connection.sendall(bytes(3 * MB) + NEXT)
        assert answer(connection)[0] == b"200"


@pytest.mark.parametrize(
    "told",
    [b"Content-Length: 20000000", b"Transfer-Encoding: chunked", b"Content-Length: 3000000\r\nExpect: 100-continue"],
    ids=["much", "nobody knows how much", "nothing before it is asked for"],
)
def test_who_will_not_be_heard_to_the_end_is_told(platform: Platform, told: bytes) -> None:
    begun = b"200000\r\n" + bytes(0x200000) + b"\r\n" if b"chunked" in told else b""
    with connected(platform) as connection:
        connection.sendall(JSON + told + b"\r\n\r\n" + begun)
        status, headers = answer(connection)
        assert (status, headers[b"connection"]) == (b"413", b"close")
        assert connection.recv(1) == b""


def test_who_does_not_listen_is_cut_off(platform: Platform) -> None:
    with connected(platform) as connection:
        connection.sendall(JSON + b"Content-Length: 1000000000\r\n\r\n")
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            connection.sendall(bytes(1000 * MB))


@pytest.mark.parametrize("told", [b"Connection: close\r\n", b""], ids=["it closes", "it is kept"])
def test_nobody_holds_a_connection_by_saying_nothing_more(platform: Platform, told: bytes) -> None:
    gateway = psutil.Process(platform.processes["gateway"].pid)
    with connected(platform) as connection:
        ours = connection.getsockname()[1]
        connection.sendall(JSON + told + b"Content-Length: %d\r\n\r\n" % (2 * MB))
        assert answer(connection)[0] == b"413"
        if not told:
            connection.sendall(bytes(2 * MB))
        wait_until(lambda: ours not in {c.raddr.port for c in gateway.net_connections() if c.raddr}, 60, "its end")
