"""The guarded HTTP client: addresses checked before each connection, redirects too, within one time and one size.

It reads no proxy and no password from the environment; of it only SSL_CERT_FILE and SSL_CERT_DIR are heeded.
"""

from __future__ import annotations

import logging
import math
import ssl
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import httpcore2
import httpx2

from shared.egress.addresses import Network, Resolve, resolve_host
from shared.egress.errors import BadAnswer, BadUrl, FetchFailed
from shared.egress.network import Blocked, GuardedBackend, Patience
from shared.egress.urls import origin_of, parse_url, port_of
from shared.logging import get_logger

log = get_logger(__name__)
# At DEBUG it writes whole headers, and a redirect's Location may be a signed address.
logging.getLogger("httpcore2").setLevel(logging.INFO)

TOTAL_SECONDS = 30.0
MAX_REDIRECTS = 3
REDIRECTS = {301, 302, 303, 307, 308}
BROKEN = (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said. `chunks` reads the body once, as it is asked for; it raises EgressError.

    `headers` have their names in small letters; of one that came several times the last is kept.
    """

    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]

    @property
    def retry_after(self) -> str | None:
        return self.headers.get("retry-after")


@dataclass(frozen=True, slots=True)
class Asking:
    """What is unusual about a request: a file of gigabytes takes longer than `Egress` allows others.

    `headers` go to every server on the way, `token` (as a bearer's) to the first one alone. The rest is as
    `shared.egress.network.Patience` has it, `seconds` for all of it instead of the Egress's own.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    token: str | None = None
    seconds: float | None = None
    silence: float = math.inf
    watch: Callable[[], None] | None = None


ORDINARY = Asking()


class Egress:
    """Makes requests to addresses that others chose. One instance may be used by many threads.

    `ports` are allowed besides 80 and 443, `networks` although they are private; a request with its redirects and
    its body takes `seconds` at most.
    """

    def __init__(
        self,
        ports: Collection[int] = (),
        networks: Collection[Network] = (),
        *,
        seconds: float = TOTAL_SECONDS,
        resolve: Resolve = resolve_host,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._ports, self._networks, self._seconds = ports, networks, seconds
        self._resolve, self._own_tls = resolve, tls

    @contextmanager
    def get(self, url: str, limit: int, asking: Asking = ORDINARY) -> Iterator[Answer]:
        """The answer, of at most `limit` bytes, after up to MAX_REDIRECTS redirects; raises EgressError."""
        patience = self._patience(asking)
        place = first = parse_url(url, self._ports)
        token = asking.token
        for _ in range(MAX_REDIRECTS + 1):
            secret = {"Authorization": f"Bearer {token}"} if token else {}
            with self._asked("GET", place, {"Accept": "*/*", **asking.headers, **secret}, None, patience) as response:
                target = _header(response, b"location")
                if response.status not in REDIRECTS or target is None:
                    yield _answer(response, limit, place)
                    return
                place = self._redirected(place, target)
                if origin_of(place) != origin_of(first):
                    token = None  # and it stays so, whatever this server sends us back to
        raise _failed(place, "too many redirects", transient=False)

    @contextmanager
    def post(self, url: str, content: bytes, headers: Mapping[str, str], limit: int) -> Iterator[Answer]:
        """The answer, of at most `limit` bytes; a redirect is an answer like any other. Raises EgressError."""
        with self.ask("POST", url, content, limit, Asking(headers)) as answer:
            yield answer

    @contextmanager
    def ask(
        self, method: str, url: str, content: bytes | None, limit: int, asking: Asking = ORDINARY
    ) -> Iterator[Answer]:
        """One request and its answer, of at most `limit` bytes, be it a redirect or not; raises EgressError."""
        place = parse_url(url, self._ports)
        with self._asked(method, place, asking.headers, content, self._patience(asking)) as response:
            yield _answer(response, limit, place)

    @contextmanager
    def _asked(
        self, method: str, place: httpx2.URL, headers: Mapping[str, str], content: bytes | None, patience: Patience
    ) -> Iterator[httpcore2.Response]:
        own = {"Host": place.netloc.decode("ascii"), "Accept-Encoding": "identity", "User-Agent": "atelier"}
        sent = list({**headers, **own}.items())
        target = httpcore2.URL(scheme=place.raw_scheme, host=place.raw_host, port=port_of(place), target=place.raw_path)
        pool = httpcore2.ConnectionPool(
            ssl_context=self._tls if place.scheme == "https" else None,  # it takes a while to read
            max_keepalive_connections=0,  # every redirect connects anew, and is checked anew
            network_backend=GuardedBackend(self._resolve, self._networks, patience),
        )
        with (
            _translated(place),
            pool,
            pool.stream(method, target, headers=sent, content=content) as found,
        ):
            yield found

    def _patience(self, asking: Asking) -> Patience:
        seconds = self._seconds if asking.seconds is None else asking.seconds
        return Patience(time.monotonic() + seconds, asking.silence, asking.watch)

    def _redirected(self, place: httpx2.URL, target: bytes) -> httpx2.URL:
        try:
            return parse_url(str(place.join(target.decode("utf-8"))), self._ports)
        except (BadUrl, httpx2.InvalidURL, ValueError):
            raise _failed(place, "a redirect to an address that is not allowed", transient=False) from None

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._own_tls or httpcore2.default_ssl_context()


def _answer(response: httpcore2.Response, limit: int, place: httpx2.URL) -> Answer:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
    return Answer(response.status, headers, _chunks(response, limit, place))


def _chunks(response: httpcore2.Response, limit: int, place: httpx2.URL) -> Iterator[bytes]:
    """The body's bytes, refused as soon as they are, or are announced to be, too many."""
    encodings = [value.strip().lower() for name, value in response.headers if name.lower() == b"content-encoding"]
    if any(encoding not in (b"", b"identity") for encoding in encodings):
        raise BadAnswer("The answer is compressed, which was not asked for.")
    announced, seen = _header(response, b"content-length") or b"", 0
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    with _translated(place):
        for chunk in response.iter_stream():
            seen += len(chunk)
            if seen > limit:
                raise _too_large(limit)
            yield chunk


def _too_large(limit: int) -> BadAnswer:
    return BadAnswer(f"The answer is larger than {limit} bytes.")


def _header(response: httpcore2.Response, wanted: bytes) -> bytes | None:
    return next((value for name, value in response.headers if name.lower() == wanted), None)


@contextmanager
def _translated(place: httpx2.URL) -> Iterator[None]:
    """The libraries' errors as FetchFailed, with the reason in the log."""
    try:
        yield
    except Blocked as error:
        raise _failed(place, str(error), transient=False) from error
    except BROKEN as error:
        raise _failed(place, f"{type(error).__name__}: {error}", transient=True) from error


def _failed(place: httpx2.URL, reason: str, *, transient: bool) -> FetchFailed:
    log.warning("an outbound request failed", origin=origin_of(place), reason=reason)
    return FetchFailed(transient=transient)
