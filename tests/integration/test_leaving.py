"""What a client that leaves waited for is waited for no more."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.integration.test_shutdown import waiting
from tests.platform import Platform, wait_until

COUNT = 10
ASKED = b"POST /toys/play HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nPrefer: wait=600\r\n"


@pytest.fixture(scope="module")
def gateway(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One without workers: its jobs stay queued."""
    platform = Platform(environment, tmp_path_factory.mktemp("logs"))
    try:
        yield platform.start("gateway")
    finally:
        platform.close()


def come_and_leave(gateway: Platform, request: bytes) -> None:
    """So many clients send it; all of them wait, then all of them leave."""
    clients = [socket.create_connection(("127.0.0.1", gateway.port), timeout=30) for _ in range(COUNT)]
    for client in clients:
        client.sendall(request)
    wait_until(lambda: waiting(gateway) == COUNT, what="all of them")
    for client in clients:
        client.close()
    wait_until(lambda: waiting(gateway) == 0, what="the gateway to notice")


def test_of_those_who_wait_for_their_jobs(gateway: Platform) -> None:
    come_and_leave(gateway, ASKED + b"Content-Length: 2\r\n\r\n{}")
    assert len(gateway.client.get("/jobs?status=queued").json()["jobs"]) == COUNT  # they stand all the same


def test_of_those_who_follow(gateway: Platform) -> None:
    come_and_leave(gateway, f"GET /status/{gateway.submit()}/events HTTP/1.1\r\nHost: a\r\n\r\n".encode())


def test_of_those_who_sent_more_before_they_left(gateway: Platform) -> None:
    followed = f"GET /status/{gateway.submit()}/events HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    come_and_leave(gateway, followed + b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
