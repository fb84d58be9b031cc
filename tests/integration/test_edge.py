"""What every answer carries, and whom the gateway answers."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.platform import Platform

EDGE = {
    "ATELIER_CORS_ORIGINS": "https://app.example.com, https://other.example.com",
    "ATELIER_TRUSTED_HOSTS": "127.0.0.1, api.example.com",
}


@pytest.fixture(scope="module")
def client(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    platform = Platform(environment | EDGE, tmp_path_factory.mktemp("logs"))
    try:
        yield platform.start("gateway").client
    finally:
        platform.close()


@pytest.mark.parametrize("path", ["/", "/health", "/nothing-here", "/jobs", "/docs"])
def test_every_answer_has_the_security_headers(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-request-id"]
    assert "server" not in answer.headers


def test_only_listed_origins_may_call(client: httpx.Client) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "X-API-Key"}
    welcome = client.options("/jobs", headers=asked | {"Origin": "https://app.example.com"})
    assert welcome.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "access-control-allow-credentials" not in welcome.headers
    refused = client.options("/jobs", headers=asked | {"Origin": "https://evil.example.com"})
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in refused.headers
    assert "access-control-allow-origin" in client.get("/jobs", headers={"Origin": "https://app.example.com"}).headers


def test_other_hosts_are_not_answered(client: httpx.Client) -> None:
    assert client.get("/health", headers={"Host": "api.example.com"}).status_code == 200
    assert client.get("/health", headers={"Host": "evil.example.com"}).status_code == 400
