"""A gateway that is told to stop answers everybody first, those who came a moment ago as well."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.platform import Platform, wait_until

ASKED = b"POST /toys/play HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nPrefer: wait=60\r\n"


@pytest.fixture
def gateway(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One without workers: its jobs stay queued."""
    platform = Platform(environment, tmp_path_factory.mktemp("logs"))
    try:
        yield platform.start("gateway")
    finally:
        platform.close()


@contextmanager
def sent(gateway: Platform, request: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as connection:
        connection.sendall(request)
        yield connection


def rest(connection: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of all that still comes."""
    received = b""
    while part := connection.recv(65_536):
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return head, body


def waiting(gateway: Platform) -> float:
    lines = gateway.client.get("/metrics/prometheus").text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("atelier_waiting_requests ")))


def test_who_waits_is_answered_also_if_the_body_ends_after_the_signal(gateway: Platform) -> None:
    with (
        sent(gateway, ASKED + b"Content-Length: 2\r\n\r\n{}") as early,
        sent(gateway, ASKED + b"Content-Length: 2\r\n\r\n{") as late,
    ):
        wait_until(lambda: waiting(gateway) == 1, what="the first to wait")
        gateway.processes["gateway"].terminate()
        head, body = rest(early)
        assert head.startswith(b"HTTP/1.1 202")
        late.sendall(b"}")
        head, body = rest(late)
    assert head.startswith(b"HTTP/1.1 202"), head
    assert json.loads(body)["status"] == "queued"


def test_who_follows_is_told_to_connect_anew(gateway: Platform) -> None:
    with sent(gateway, f"GET /status/{gateway.submit()}/events HTTP/1.1\r\nHost: a\r\n\r\n".encode()) as stream:
        wait_until(lambda: waiting(gateway) == 1, what="the stream")
        gateway.processes["gateway"].terminate()
        _, body = rest(stream)
    assert b"event: reconnect" in body


def test_who_takes_too_long_is_told_to_try_again(gateway: Platform) -> None:
    with sent(gateway, ASKED + b"Content-Length: 2\r\n\r\n{") as slow:
        gateway.client.get("/ready")  # the other one's head has been read by then
        gateway.processes["gateway"].terminate()
        head, body = rest(slow)
    assert head.startswith(b"HTTP/1.1 503"), head
    assert b"retry-after: 1" in head
    assert json.loads(body)["error"] == "unavailable"
