"""The guarded client against real servers: what it connects to, what it follows, when it stops."""

from __future__ import annotations

import gzip
import logging
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from shared.egress.client import Answer, Asking, Egress
from shared.egress.errors import BadAnswer, BadUrl, EgressError, FetchFailed
from tests.egress.servers import Server, broken, certificate, dripping, endless, redirect, reply, serving

OUTSIDE, INSIDE = "127.0.0.2", "127.0.0.1"  # to these tests, one of them is the internet and the other is not
NETWORKS = (ip_network(f"{OUTSIDE}/32"),)
SAME = "The address could not be fetched."
LIMIT = 100_000


class Names:
    """A resolver with answers in turn; the last one stays."""

    def __init__(self, *answers: Sequence[str] | Exception) -> None:
        self._answers, self.asked = list(answers) or [[OUTSIDE]], 0

    def __call__(self, host: str, port: int, seconds: float) -> Sequence[str]:
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        if isinstance(answer, Exception):
            raise answer
        return answer


def egress(server: Server, names: Names | None = None, **options: Any) -> Egress:
    return Egress([server.port], NETWORKS, resolve=names or Names(), **{"seconds": 10, **options})


def fetch(client: Egress, url: str, limit: int = LIMIT) -> tuple[int, bytes]:
    with client.get(url, limit) as answer:
        return answer.status, b"".join(answer.chunks)


def refused(client: Egress, url: str) -> FetchFailed:
    with pytest.raises(FetchFailed) as caught:
        fetch(client, url)
    assert str(caught.value) == SAME, "nobody learns from it why a host failed"
    return caught.value


@pytest.fixture
def behaviours() -> dict[str, Any]:
    return {"/": reply()}


@pytest.fixture
def outside(behaviours: dict[str, Any]) -> Iterator[Server]:
    with serving(behaviours, OUTSIDE) as server:
        yield server


@pytest.fixture
def inside(outside: Server) -> Iterator[Server]:
    """On the same port, where nobody may go."""
    with serving({"/": reply(b"secret")}, INSIDE, outside.port) as server:
        yield server


def test_the_answer_is_what_the_server_sent(outside: Server, behaviours: dict[str, Any]) -> None:
    behaviours["/ü"] = behaviours["/%C3%BC"] = reply(bytes(50_000), 201)
    assert fetch(egress(outside), f"http://pictures.example:{outside.port}/ü?a=b c") == (201, bytes(50_000))
    line, headers, _ = outside.asked[0]
    assert line == "GET /%C3%BC?a=b%20c"
    assert headers["Host"] == f"pictures.example:{outside.port}"
    assert headers["Accept-Encoding"] == "identity"


def test_https_asks_for_the_name_and_checks_it(behaviours: dict[str, Any], tmp_path: Path) -> None:
    pem = certificate(tmp_path, "pictures.example")
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(pem)
    trusted = ssl.create_default_context(cafile=str(pem))
    with serving(behaviours, OUTSIDE, tls=own) as server:
        assert fetch(egress(server, tls=trusted), f"https://pictures.example:{server.port}/") == (200, b"hello")
        assert server.names == ["pictures.example"]
        assert server.asked[0][1]["Host"] == f"pictures.example:{server.port}"
        refused(egress(server, tls=trusted), f"https://other.example:{server.port}/")
        refused(egress(server), f"https://pictures.example:{server.port}/")
    assert len(server.asked) == 1


@pytest.mark.hostile("S")
@pytest.mark.parametrize(
    "found",
    [[INSIDE], [OUTSIDE, INSIDE], [INSIDE, OUTSIDE], [OUTSIDE, "::1"], ["::ffff:127.0.0.1"], ["169.254.169.254"], []],
    ids=str,
)
def test_one_bad_address_is_enough(outside: Server, inside: Server, found: list[str]) -> None:
    assert not refused(egress(outside, Names(found)), f"http://mixed.example:{outside.port}/").transient
    assert outside.asked == inside.asked == []


@pytest.mark.hostile("S")
def test_a_name_that_changes_its_mind_leads_nowhere_else(outside: Server, inside: Server) -> None:
    names = Names([OUTSIDE], [INSIDE])
    client, url = egress(outside, names), f"http://rebound.example:{outside.port}/"
    assert fetch(client, url) == (200, b"hello")
    assert names.asked == 1, "what was checked is what was connected to"
    refused(client, url)
    assert inside.asked == []


@pytest.mark.hostile("S")
def test_a_redirect_is_resolved_and_checked_anew(outside: Server, inside: Server, behaviours: dict[str, Any]) -> None:
    behaviours["/moved"] = redirect("/")
    names = Names([OUTSIDE], [INSIDE])
    refused(egress(outside, names), f"http://rebound.example:{outside.port}/moved")
    assert (len(outside.asked), len(inside.asked), names.asked) == (1, 0, 2)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(outside: Server, behaviours: dict[str, Any], status: int) -> None:
    behaviours["/a"] = redirect("b?x=1", status)
    behaviours["/b"] = redirect(f"//other.example:{outside.port}/c", status)
    behaviours["/c"] = redirect(f"http://third.example:{outside.port}/", status)
    assert fetch(egress(outside), f"http://first.example:{outside.port}/a") == (200, b"hello")
    hosts = [headers["Host"].split(":")[0] for _, headers, _ in outside.asked]
    assert hosts == ["first.example", "first.example", "other.example", "third.example"]


@pytest.mark.hostile("S")
@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://example.com/",
        "http://u:p@example.com/",
        "http://example.com:22/",
        "http://[::1",
        "é",
        "http://exa mple.com/",
        "http://example.com/" + "a" * 3000,
        "/moved",
    ],
)
def test_redirects_to_bad_places_are_refused(outside: Server, behaviours: dict[str, Any], location: str) -> None:
    behaviours["/moved"] = redirect(location)
    assert not refused(egress(outside), f"http://a.example:{outside.port}/moved").transient


@pytest.mark.hostile("S")
@pytest.mark.parametrize(("length", "works"), [(3, True), (4, False)])
def test_three_redirects_are_the_most(outside: Server, behaviours: dict[str, Any], length: int, works: bool) -> None:
    for number in range(length):
        behaviours[f"/{number}"] = redirect(f"/{number + 1}" if number + 1 < length else "/")
    url = f"http://a.example:{outside.port}/0"
    if works:
        assert fetch(egress(outside), url) == (200, b"hello")
    else:
        refused(egress(outside), url)


def test_a_post_follows_no_redirect_and_sends_what_it_is_given(outside: Server, behaviours: dict[str, Any]) -> None:
    behaviours["/moved"] = redirect("/", 307)
    sent = {"Content-Type": "application/json", "Host": "forged.example", "X-Own": "1"}
    with egress(outside).post(f"http://a.example:{outside.port}/moved", b'{"a": 1}', sent, 100) as answer:
        assert (answer.status, b"".join(answer.chunks)) == (307, b"")
    ((line, headers, body),) = outside.asked
    assert (line, body, headers["X-Own"]) == ("POST /moved", b'{"a": 1}', "1")
    assert headers["Host"] == f"a.example:{outside.port}"


@pytest.mark.hostile("S")
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_bad_shape_is_refused_before_anything_is_sent(outside: Server, method: str) -> None:
    client, url = egress(outside), f"http://u:p@a.example:{outside.port}/"
    with pytest.raises(BadUrl), client.get(url, 1) if method == "get" else client.post(url, b"", {}, 1):
        pass
    assert outside.asked == []


@pytest.mark.hostile("S")
def test_a_size_that_is_announced_is_refused_before_it_is_read(outside: Server, behaviours: dict[str, Any]) -> None:
    behaviours["/"] = reply(b"x" * 10, **{"Content-Length": "1000000"})
    with pytest.raises(BadAnswer, match="larger than 100000 bytes"):
        fetch(egress(outside), f"http://a.example:{outside.port}/")


@pytest.mark.hostile("S")
def test_a_size_that_is_not_announced_is_counted(outside: Server, behaviours: dict[str, Any]) -> None:
    behaviours["/"] = endless
    client, seen = egress(outside), 0
    with client.get(f"http://a.example:{outside.port}/", LIMIT) as answer, pytest.raises(BadAnswer):  # noqa: PT012
        for chunk in answer.chunks:
            seen += len(chunk)
    assert seen <= LIMIT


def test_the_limit_itself_is_allowed(outside: Server, behaviours: dict[str, Any]) -> None:
    behaviours["/"] = reply(bytes(LIMIT))
    assert fetch(egress(outside), f"http://a.example:{outside.port}/") == (200, bytes(LIMIT))


@pytest.mark.hostile("S")
@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "identity, gzip", "deflate"])
def test_a_compressed_answer_is_refused(outside: Server, behaviours: dict[str, Any], encoding: str) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    behaviours["/"] = reply(bomb, Content_Encoding=encoding)
    with pytest.raises(BadAnswer, match="compressed"):
        fetch(egress(outside), f"http://a.example:{outside.port}/")


DRIPS = {
    "headers": b"HTTP/1.1 200 OK\r\nX: ",
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n",
    "body without an end": b"HTTP/1.1 200 OK\r\n\r\n",
}


@pytest.mark.hostile("S")
@pytest.mark.parametrize("where", DRIPS)
def test_a_slow_drip_does_not_outlast_the_time(outside: Server, behaviours: dict[str, Any], where: str) -> None:
    drops: list[bytes] = []
    behaviours["/"] = dripping(DRIPS[where], drops)
    assert refused(egress(outside, seconds=0.5), f"http://a.example:{outside.port}/").transient
    assert len(drops) < 50, "five seconds of them, by the server's clock"


@pytest.mark.hostile("S")
def test_redirects_share_the_time(outside: Server, behaviours: dict[str, Any]) -> None:
    asked: list[str] = []

    def late(handler: Any) -> None:
        asked.append(handler.path)
        time.sleep(0.4)
        redirect("/late")(handler)

    behaviours["/late"] = late
    assert refused(egress(outside, seconds=0.6), f"http://a.example:{outside.port}/late").transient
    assert len(asked) <= 2, "with 0.6 s for each of them all four would have been asked for"


@pytest.mark.hostile("S")
def test_a_handshake_that_does_not_begin_ends_in_time() -> None:
    with socket.create_server((OUTSIDE, 0)) as silent:
        port = silent.getsockname()[1]
        client = Egress([port], NETWORKS, seconds=0.3, resolve=Names())
        assert refused(client, f"https://a.example:{port}/").transient


@pytest.mark.hostile("S")
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nX" * 50000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    ],
    ids=["nothing", "ssh", "cut", "long headers", "transfer coding", "negative length"],
)
def test_a_broken_answer_fails_like_all_others(outside: Server, behaviours: dict[str, Any], sent: bytes) -> None:
    behaviours["/"] = broken(sent)
    assert refused(egress(outside), f"http://a.example:{outside.port}/").transient


@pytest.mark.hostile("S")
@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), False),
        (socket.gaierror(socket.EAI_NODATA, "unknown"), False),
        (socket.gaierror(socket.EAI_AGAIN, "later"), True),
        (TimeoutError(), True),
    ],
)
def test_an_unknown_name_looks_like_a_forbidden_one(outside: Server, error: Exception, transient: bool) -> None:
    url = f"http://a.example:{outside.port}/"
    assert refused(egress(outside, Names(error)), url).transient is transient
    assert not refused(egress(outside, Names([INSIDE])), url).transient


def test_the_next_address_is_tried_when_one_is_silent(outside: Server) -> None:
    networks = [ip_network("127.0.0.0/8")]
    client = Egress([outside.port], networks, resolve=Names(["127.0.0.9", OUTSIDE]))
    assert fetch(client, f"http://a.example:{outside.port}/") == (200, b"hello")


@pytest.mark.hostile("S")
def test_proxies_and_passwords_of_the_environment_are_ignored(
    outside: Server, inside: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{INSIDE}:{inside.port}")
    (tmp_path / ".netrc").write_text("machine a.example login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    assert fetch(egress(outside), f"http://a.example:{outside.port}/") == (200, b"hello")
    assert inside.asked == []
    assert "Authorization" not in outside.asked[0][1]


def test_the_log_says_why_and_keeps_secrets(
    outside: Server, behaviours: dict[str, Any], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    behaviours["/moved"] = redirect(f"http://a.example:{outside.port}/private?sig=s3cr3t")
    names = Names([OUTSIDE], [INSIDE])
    with caplog.at_level(logging.DEBUG):
        error = refused(egress(outside, names), f"http://a.example:{outside.port}/moved?token=s3cr3t")
    told = caplog.text + "".join(capsys.readouterr())
    assert f"leads to {INSIDE}" in told
    chain: BaseException | None = error
    while chain is not None:
        told, chain = told + str(chain), chain.__cause__ or chain.__context__
    assert "s3cr3t" not in told
    assert "private" not in told


def test_a_consumers_own_error_passes(outside: Server) -> None:
    def consume(answer: Answer) -> None:
        next(answer.chunks)
        raise LookupError("mine")

    with (
        pytest.raises(LookupError, match="mine"),
        egress(outside).get(f"http://a.example:{outside.port}/", 9) as answer,
    ):
        consume(answer)


def test_all_errors_are_of_one_tree() -> None:
    assert {BadUrl, BadAnswer, FetchFailed} == set(EgressError.__subclasses__())


class Stopped(BaseException):
    """What a watcher raises."""


def test_who_watches_can_stop_a_request_wherever_it_waits(outside: Server, behaviours: dict[str, Any]) -> None:
    behaviours["/silent"] = dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", [])
    looked = []

    def watch() -> None:
        looked.append(time.monotonic())
        if len(looked) > 3:
            raise Stopped

    def slow(host: str, port: int, seconds: float) -> Sequence[str]:
        time.sleep(seconds)
        raise TimeoutError

    for names in (Names(), slow):
        looked.clear()
        request = egress(outside, names).get(f"http://a.example:{outside.port}/silent", LIMIT, Asking(watch=watch))
        with pytest.raises(Stopped), request as answer:
            b"".join(answer.chunks)


def test_a_server_that_is_silent_for_too_long_is_given_up(outside: Server, behaviours: dict[str, Any]) -> None:
    behaviours["/"] = lambda handler: time.sleep(30)
    request = egress(outside).get(f"http://a.example:{outside.port}/", LIMIT, Asking(silence=0.2))
    with pytest.raises(FetchFailed) as caught, request:
        pass
    assert caught.value.transient


def test_a_token_stays_with_the_first_server(outside: Server, behaviours: dict[str, Any]) -> None:
    behaviours["/there"] = redirect(f"http://b.example:{outside.port}/back")
    behaviours["/back"] = redirect(f"http://a.example:{outside.port}/")
    asking = Asking({"Range": "bytes=1-"}, token="of-the-first")
    with egress(outside).get(f"http://a.example:{outside.port}/there", LIMIT, asking) as answer:
        assert answer.status == 200
    told = [(headers.get("Authorization"), headers["Range"]) for _, headers, _ in outside.asked]
    assert told == [("Bearer of-the-first", "bytes=1-"), (None, "bytes=1-"), (None, "bytes=1-")]
