"""What every answer carries, and whom the gateway answers."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from tests.accounts import AUTH, register
from tests.integration.test_accounts import execute
from tests.platform import Platform, wait_until

EDGE = {
    "ATELIER_CORS_ORIGINS": "https://app.example.com, https://other.example.com",
    "ATELIER_TRUSTED_HOSTS": "127.0.0.1, api.example.com",
    "ATELIER_MAX_JSON_BYTES": "2000",
    "ATELIER_ACCESS_LOG": "true",
    "LOG_LEVEL": "INFO",
}
CSP = "default-src 'none'; frame-ancestors 'none'"
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
COMPLETED = """
UPDATE jobs SET state = 'completed', result_attempt = 1, lease_expires_at = NULL, output = '{}', manifest = '[]',
    finished_at = now() WHERE id = %s
"""
WEBSOCKET = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "eA==",
    "Sec-WebSocket-Version": "13",
}


@pytest.fixture(scope="module")
def served(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    platform = Platform(environment | EDGE | AUTH, tmp_path_factory.mktemp("logs"))
    try:
        yield platform.start("gateway")
    finally:
        platform.close()


@pytest.fixture(scope="module")
def client(served: Platform) -> httpx.Client:
    return served.client


@pytest.fixture(scope="module")
def signed_in(client: httpx.Client) -> dict[str, str]:
    return register(client, "ada").headers


def check(headers: httpx.Headers, csp: str = CSP) -> None:
    """What every answer has, and has once."""
    wanted = {
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "x-frame-options": "DENY",
        "content-security-policy": csp,
        "cache-control": "no-store",
    }
    assert {name: headers.get(name) for name in wanted} == wanted
    assert headers["x-request-id"]
    assert "server" not in headers
    assert "x-powered-by" not in headers
    assert "strict-transport-security" not in headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/health", 200),
        ("GET", "/sync/ready", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/nothing-here", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/static-offline-docs/nothing-here", 404),
        ("GET", "/docs/nothing-here", 404),
        ("DELETE", "/health", 405),
        ("HEAD", "/health", 405),
        ("OPTIONS", "/health", 405),
        ("TRACE", "/health", 405),
        ("GET", "/jobs", 401),
        ("GET", "/auth/profile", 401),
        ("GET", "/status/0199a7f0-0000-7000-8000-00000000000a", 401),
        ("HEAD", "/results/0199a7f0-0000-7000-8000-00000000000a", 401),
        ("POST", "/auth/login", 400),
    ],
)
def test_every_answer_has_the_security_headers(client: httpx.Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    check(answer.headers)


def test_private_answers_are_kept_by_nobody(
    client: httpx.Client, signed_in: dict[str, str], environment: dict[str, str]
) -> None:
    job_id = client.post("/toys/play", json={}, headers=signed_in).json()["job_id"]
    execute(
        environment, "UPDATE jobs SET state = 'running', attempt = 1, lease_expires_at = now() WHERE id = %s", job_id
    )
    execute(environment, COMPLETED, job_id)
    for path in (f"/status/{job_id}", f"/status/{job_id}/events", f"/results/{job_id}", "/jobs", "/auth/profile"):
        answer = client.get(path, headers=signed_in)
        assert answer.status_code == 200, path
        check(answer.headers)
    ranged = client.get(f"/results/{job_id}", headers=signed_in | {"Range": "bytes=0-3"})
    assert ranged.status_code == 206
    check(ranged.headers)
    again = client.get(f"/results/{job_id}", headers=signed_in | {"If-None-Match": ranged.headers["etag"]})
    assert again.status_code == 304
    check(again.headers)


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"Content-Type": "application/json"}, b"x" * 3000, 413),
        ({"Content-Type": "text/css"}, b"{}", 415),
        ({"Content-Type": "application/json"}, b"{", 400),
        ({"Content-Type": "application/json"}, b'{"seed": NaN}', 400),
    ],
)
def test_refused_bodies_too(
    client: httpx.Client, signed_in: dict[str, str], headers: dict[str, str], content: bytes, status: int
) -> None:
    answer = client.post("/toys/play", headers=headers | signed_in, content=content)
    assert answer.status_code == status
    check(answer.headers)


def test_a_bug_is_told_with_the_headers_and_without_its_text(
    served: Platform, client: httpx.Client, signed_in: dict[str, str], environment: dict[str, str]
) -> None:
    execute(environment, "ALTER TABLE jobs RENAME TO jobs_away")
    try:
        answer = client.get("/jobs", headers=signed_in | {"Origin": "https://app.example.com"})
    finally:
        execute(environment, "ALTER TABLE jobs_away RENAME TO jobs")
    assert (answer.status_code, answer.json()["error"]) == (500, "internal_error")
    check(answer.headers)
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "jobs" not in answer.text
    request_id = answer.headers["x-request-id"]
    assert answer.json()["request_id"] == request_id
    lines = [line for line in logged(served) if line.get("request_id") == request_id]
    assert [line["event"] for line in lines] == ["unexpected error", "request"]
    assert "UndefinedTableError" in lines[0]["exception"]
    assert lines[1]["status"] == 500
    assert 'status="500"' in client.get("/metrics/prometheus", headers=admin(client)).text


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/docs/oauth2-redirect", "/sync/docs"])
def test_the_documentations_pages_may_run_their_own_scripts(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    csp = answer.headers["content-security-policy"]
    check(answer.headers, csp)
    assert "script-src 'self' 'unsafe-inline'" in csp
    assert "frame-ancestors 'none'" in csp


def test_only_what_is_the_same_for_everybody_may_be_kept(client: httpx.Client) -> None:
    answer = client.get("/static-offline-docs/swagger-ui.css")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=3600"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_an_offer_of_a_websocket_is_declined(client: httpx.Client) -> None:
    for path, status in (("/health", 200), ("/nothing-here", 404)):
        answer = client.get(path, headers=WEBSOCKET)
        assert answer.status_code == status
        check(answer.headers)


@pytest.mark.hostile("H")
@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nbad header\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_request_is_answered_like_all_others(served: Platform, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("ascii").split("\r\n")
    headers = httpx.Headers([tuple(line.split(": ", 1)) for line in lines])  # type: ignore[misc]
    assert re.match(r"HTTP/1.1 4\d\d ", first)
    check(headers)
    assert int(headers["content-length"]) == len(body)
    assert json.loads(body)["request_id"] == headers["x-request-id"]


@pytest.mark.hostile("H")
def test_nothing_is_said_in_the_middle_of_an_answer(
    served: Platform, client: httpx.Client, signed_in: dict[str, str]
) -> None:
    events = client.post("/toys/play", json={}, headers=signed_in).json()["events_url"]
    lines = [f"GET {events} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: {signed_in['Authorization']}", "", ""]
    received = b""
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        connection.sendall("\r\n".join(lines).encode())
        while b"event: status" not in received:
            received += connection.recv(65536)
        connection.sendall(b"nonsense\r\n\r\n")
        with suppress(ConnectionResetError):
            while chunk := connection.recv(65536):
                received += chunk
    assert received.count(b"HTTP/1.1 ") == 1


def test_a_request_has_its_own_id(client: httpx.Client) -> None:
    first, second = (client.get("/nothing-here") for _ in range(2))
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert ID.fullmatch(first.headers["x-request-id"])
    assert first.json()["request_id"] == first.headers["x-request-id"]


@pytest.mark.hostile("H")
def test_a_client_may_name_its_request_in_a_safe_shape(served: Platform, client: httpx.Client) -> None:
    named = client.get("/nothing-here", headers={"X-Request-ID": "4bf92f3577b34da6a3ce929d0e0e4736"})
    assert named.headers["x-request-id"] == named.json()["request_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    name = named.headers["x-request-id"]
    wait_until(lambda: name in [line.get("request_id") for line in logged(served)], 30, "the request's line")
    bad = [
        "short",
        "x" * 65,
        "has space in it",
        "sk_abcdefgh",
        "a.b.c.d.e.f",
        "-leading",
        "<script>alert",
        "naïve-name",
    ]
    for name in bad:
        answer = client.get("/nothing-here", headers={"X-Request-ID": name.encode()})  # type: ignore[dict-item]
        assert ID.fullmatch(answer.headers["x-request-id"]), name
    twice = client.get("/nothing-here", headers=[("X-Request-ID", "one-name-x"), ("X-Request-ID", "other-name-x")])
    assert ID.fullmatch(twice.headers["x-request-id"])


def test_one_id_finds_a_request_and_its_job(served: Platform, client: httpx.Client, signed_in: dict[str, str]) -> None:
    accepted = client.post("/toys/play", json={}, headers=signed_in)
    assert accepted.headers["x-request-id"] == accepted.json()["job_id"]
    named = client.post("/toys/play", json={}, headers=signed_in | {"X-Request-ID": "the-clients-name-7"})
    [line] = [line for line in logged(served) if line["event"] == "the client named the request"]
    assert (line["request_id"], line["job"]) == ("the-clients-name-7", named.json()["job_id"])


def test_the_access_log_drops_queries(served: Platform, client: httpx.Client) -> None:
    client.get("/nobody-is-here?token=Zq9vXk3wPz7m")
    [line] = wait_until(lambda: [line for line in logged(served) if line.get("path") == "/nobody-is-here"], 10, "it")
    assert {name: line[name] for name in ("method", "path", "status", "client")} == {
        "method": "GET",
        "path": "/nobody-is-here",
        "status": 404,
        "client": "127.0.0.1",
    }
    assert "Zq9vXk3wPz7m" not in (served.logs / "gateway.log").read_text()


def test_only_listed_origins_may_call(client: httpx.Client, signed_in: dict[str, str]) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "X-API-Key"}
    welcome = client.options("/jobs", headers=asked | {"Origin": "https://app.example.com"})
    assert welcome.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "access-control-allow-credentials" not in welcome.headers
    refused = client.options("/jobs", headers=asked | {"Origin": "https://evil.example.com"})
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in refused.headers
    for preflight in (welcome, refused):
        check(preflight.headers)
    listed = client.get("/jobs", headers=signed_in | {"Origin": "https://app.example.com"})
    assert "access-control-allow-origin" in listed.headers


@pytest.mark.hostile("H")
def test_other_hosts_are_not_answered(client: httpx.Client) -> None:
    assert client.get("/health", headers={"Host": "api.example.com"}).status_code == 200
    refused = client.get("/health", headers={"Host": "evil.example.com"})
    assert refused.status_code == 400
    check(refused.headers)


def test_tls_in_front_is_believed_of_trusted_proxies_only(
    client: httpx.Client, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    forwarded = {"X-Forwarded-Proto": "https"}
    assert "strict-transport-security" not in client.get("/health", headers=forwarded).headers
    # With a proxy in front others come, so the tests' usual password would be refused.
    trusting = Platform(environment | {"ATELIER_TRUSTED_PROXIES": "127.0.0.1"}, tmp_path_factory.mktemp("logs"))
    try:
        trusting.start("gateway")
        behind = trusting.client.get("/nothing-here", headers=forwarded)
        assert behind.headers["strict-transport-security"] == "max-age=31536000"
        assert "strict-transport-security" not in trusting.client.get("/health").headers
    finally:
        trusting.close()


def admin(client: httpx.Client) -> dict[str, str]:
    made = client.post("/auth/login", json={"username": "operator", "password": AUTH["ATELIER_ADMIN_PASSWORD"]})
    return {"Authorization": f"Bearer {made.json()['access_token']}"}


def logged(served: Platform) -> list[dict[str, str]]:
    """The gateway's lines so far."""
    return [json.loads(line) for line in (served.logs / "gateway.log").read_text().splitlines()]
