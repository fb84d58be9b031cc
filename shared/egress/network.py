"""Connections to checked addresses only, and an end to all of them at one moment.

httpcore2 asks here for a connection to a host. The host is resolved, every address is checked, and one of exactly
these addresses is connected to: nobody resolves the name again, so it cannot mean something else by then. TLS and
the Host header keep the name.
"""

from __future__ import annotations

import math
import socket
import ssl
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from ipaddress import ip_address
from threading import Thread

from httpcore2 import (
    SOCKET_OPTION,
    ConnectError,
    ConnectTimeout,
    NetworkBackend,
    NetworkStream,
    ReadTimeout,
    SyncBackend,
    WriteTimeout,
)

from shared.egress.addresses import Network, Resolve, is_allowed

CONNECT_SECONDS = 5.0  # to resolve and connect
MAX_TRIES = 4  # addresses of one host
PIECE = 65_536  # bytes written before the clock is looked at again
GLANCE = 0.25  # seconds of silence after which `Patience.watch` is called again
UNKNOWN = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


class Blocked(Exception):
    """The host may not be asked, or does not exist; the text is for the log."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request may take, its redirects and its body included.

    It ends at `deadline` (`time.monotonic`), or when nothing came for `silence` seconds. Meanwhile `watch` is called
    several times a second; what it raises ends the request.
    """

    deadline: float
    silence: float = math.inf
    watch: Callable[[], None] | None = None

    def during(self, work: Callable[[], NetworkStream]) -> NetworkStream:
        """What `work` returns, which waits without looking around: somebody else does it while we watch."""
        if self.watch is None:
            return work()
        result: Future[NetworkStream] = Future()

        def do() -> None:
            try:
                result.set_result(work())
            except Exception as error:
                result.set_exception(error)

        Thread(target=do, name="connecting", daemon=True).start()
        while not wait([result], GLANCE).done:
            self.watch()
        return result.result()


class GuardedBackend(NetworkBackend):
    """Connects for one request."""

    def __init__(self, resolve: Resolve, networks: Collection[Network], patience: Patience) -> None:
        self._resolve, self._networks, self._patience = resolve, networks, patience
        self._direct = SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> NetworkStream:
        """Blocked, or what httpcore2 raises if no address answers."""
        return self._patience.during(lambda: self._connect(host, port))

    def _connect(self, host: str, port: int) -> NetworkStream:
        until = min(time.monotonic() + CONNECT_SECONDS, self._patience.deadline)
        tries = self._addresses(host, port, until)[:MAX_TRIES]
        failure: Exception = ConnectTimeout("no time was left to connect")
        for number, address in enumerate(tries):
            left = until - time.monotonic()
            if left <= 0:
                break
            try:  # an address that is silent must leave time for the next one
                stream = self._direct.connect_tcp(address, port, timeout=left / (len(tries) - number))
                return _Stream(stream, self._patience)
            except (ConnectError, ConnectTimeout) as error:
                failure = error
        raise failure

    def _addresses(self, host: str, port: int, until: float) -> list[str]:
        """All addresses of the host; one bad address among them is enough to refuse it."""
        try:
            found = self._resolve(host, port, max(0.0, until - time.monotonic()))
        except TimeoutError:
            raise ConnectTimeout("the name was not resolved in time") from None
        except OSError as error:
            if error.errno in UNKNOWN:
                raise Blocked(f"the name is unknown: {error}") from error
            raise ConnectError(f"the name could not be resolved: {error}") from error
        if not found:
            raise Blocked("the name has no address")
        for address in found:
            if not is_allowed(ip_address(address), self._networks):
                raise Blocked(f"the name leads to {address}")
        return list(found)


class _Stream(NetworkStream):
    """A connection whose every wait ends with the request's patience, however slowly bytes drip."""

    def __init__(self, stream: NetworkStream, patience: Patience) -> None:
        self._stream, self._patience = stream, patience

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        until = time.monotonic() + self._patience.silence
        while True:
            left = min(self._left(ReadTimeout), until - time.monotonic())
            if self._patience.watch is None:
                return self._stream.read(max_bytes, max(left, 0.001))
            self._patience.watch()
            try:
                return self._stream.read(max_bytes, min(max(left, 0.001), GLANCE))
            except ReadTimeout:
                if time.monotonic() >= until:
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), PIECE):
            self._stream.write(buffer[start : start + PIECE], self._left(WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NetworkStream:
        left = min(CONNECT_SECONDS, self._left(ConnectTimeout))
        secured = self._patience.during(lambda: self._stream.start_tls(ssl_context, server_hostname, left))
        return _Stream(secured, self._patience)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)

    def _left(self, late: type[Exception]) -> float:
        left = self._patience.deadline - time.monotonic()
        if left <= 0:
            raise late("the request's time is over")
        return left
