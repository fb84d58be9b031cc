"""The network's faults are what their names say, seen by a client of an echo."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.faults.proxy import RESET_ON_CLOSE, Link, Network

RESET = b"reset, please"
BIG = b"x" * 300_000


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.request.recv(65_536):
                if data == RESET:
                    self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                    self.request.close()
                    return
                self.server.heard += data
                self.request.sendall(data)


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads, allow_reuse_address = True, True
    heard = b""


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    with EchoServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def link(echo: EchoServer) -> Iterator[Link]:
    network = Network()
    yield network.link(echo.server_address[1])
    network.close()


@contextlib.contextmanager
def connected(link: Link) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", link.port), timeout=10) as client:
        yield client


def asked(client: socket.socket, said: bytes) -> bytes:
    client.sendall(said)
    return received(client, len(said))


def received(client: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count and (data := client.recv(65_536)):
        found += data
    return found


def test_an_open_link_passes_everything_and_its_end(link: Link) -> None:
    with connected(link) as client:
        client.sendall(BIG)
        client.shutdown(socket.SHUT_WR)
        assert received(client, len(BIG) + 1) == BIG


def test_a_slow_link_takes_its_time(link: Link) -> None:
    with connected(link) as client:
        link.slow(latency=0.05, rate=1_000_000)
        began = time.monotonic()
        assert asked(client, b"x" * 100_000) == b"x" * 100_000
        assert time.monotonic() - began >= 0.2, "one tenth of a second each way, and the latency"


def test_a_silent_link_keeps_the_connection_and_says_nothing(link: Link, echo: EchoServer) -> None:
    with connected(link) as client:
        assert asked(client, b"before") == b"before"
        link.swallow()
        client.sendall(b"during")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        link.open()
        client.settimeout(10)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert echo.heard == b"before"
    with connected(link) as client:
        assert asked(client, b"after") == b"after"


def test_a_reset_and_a_refusal(link: Link) -> None:
    with connected(link) as client:
        assert asked(client, b"1") == b"1"
        link.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    link.refuse()
    with pytest.raises(ConnectionRefusedError), connected(link):
        pass
    link.open()
    with connected(link) as client:
        assert asked(client, b"2") == b"2"


def test_a_servers_reset_reaches_the_client(link: Link, echo: EchoServer) -> None:
    with connected(link) as client:
        assert asked(client, b"1") == b"1"
        client.sendall(RESET)
        with pytest.raises(ConnectionResetError):
            received(client, len(RESET))


def test_a_cut_after_so_many_bytes(link: Link, echo: EchoServer) -> None:
    link.cut_after(100_000)
    with connected(link) as client, pytest.raises((ConnectionResetError, BrokenPipeError)):
        asked(client, BIG)
    assert len(echo.heard) <= 100_000


def test_an_answer_is_lost_although_the_question_was_heard(link: Link, echo: EchoServer) -> None:
    link.lose_the_answer_to(b"COMMIT", after=b"BEGIN")
    with connected(link) as client:
        assert asked(client, b"COMMIT") == b"COMMIT", "nothing was begun here"
    with connected(link) as client:
        assert asked(client, b"BEGIN") == b"BEGIN"
        with pytest.raises(ConnectionResetError):
            asked(client, b"COMMIT")
    assert link.lost.is_set()
    assert echo.heard == b"COMMITBEGINCOMMIT"
    with connected(link) as client:
        assert asked(client, b"COMMIT") == b"COMMIT", "once"


def test_the_network_answers_by_itself(link: Link, echo: EchoServer) -> None:
    link.answer_all(b"no")
    with connected(link) as client:
        client.sendall(b"hello")
        assert received(client, 3) == b"no"
    assert echo.heard == b""


def test_a_connection_that_leads_nowhere_is_not_even_acknowledged(link: Link, echo: EchoServer) -> None:
    with connected(link) as client:
        assert asked(client, b"before") == b"before"
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 500)
        link.vanish()
        client.sendall(b"during")
        with pytest.raises(OSError, match="timed out"):
            client.recv(1)
    with connected(link) as client:
        assert asked(client, b"after") == b"after"
    assert echo.heard == b"beforeafter"
