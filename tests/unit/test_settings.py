"""Settings stop the process by name when they are wrong."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from shared.settings import Settings, unknown_names

SECRET = "an example that is long enough, 0123456789"
URLS = {"database_url": "postgresql://u:p@x", "redis_url": "redis://:p@x", "storage_url": "file:///x"}


def test_an_unknown_variable_is_named() -> None:
    assert unknown_names({"ATELIER_PORTT": "1", "ATELIER_PORT": "1", "HOME": "/"}) == ["ATELIER_PORTT"]
    command = [sys.executable, "-c", "from shared.settings import get_settings; get_settings()"]
    done = subprocess.run(command, env={"ATELIER_PORTT": "1"}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "ATELIER_PORTT" in done.stderr


def test_missing_addresses_are_named() -> None:
    command = [sys.executable, "-c", "from shared.settings import get_settings; get_settings()"]
    done = subprocess.run(command, env={}, capture_output=True, text=True)
    assert all(name in done.stderr for name in ("DATABASE_URL", "REDIS_URL", "STORAGE_URL"))
    assert "Traceback" not in done.stderr


def test_a_public_address_without_authentication_must_be_said_twice() -> None:
    with pytest.raises(ValidationError, match="ATELIER_PUBLIC_WITHOUT_AUTH"):
        Settings(**URLS, host="0.0.0.0")  # type: ignore[arg-type]
    assert Settings(**URLS, host="0.0.0.0", public_without_auth=True).host == "0.0.0.0"  # type: ignore[arg-type]


@pytest.mark.parametrize("secret", [None, "short", "x" * 64, "change-me" * 5])
def test_authentication_needs_a_real_secret(secret: str | None) -> None:
    with pytest.raises(ValidationError, match="ATELIER_SECRET_KEY"):
        Settings(**URLS, enable_auth=True, secret_key=secret)  # type: ignore[arg-type]


def test_a_public_address_with_authentication_needs_no_second_word() -> None:
    found = Settings(**URLS, host="0.0.0.0", enable_auth=True, secret_key=SECRET)  # type: ignore[arg-type]
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"database_url": "postgresql://atelier@db.internal/atelier"}, "DATABASE_URL"),
        ({"redis_url": "redis://cache.internal:6379/0"}, "REDIS_URL"),
    ],
)
def test_with_accounts_a_distant_server_needs_a_password(change: dict[str, str], name: str) -> None:
    local = URLS | {"database_url": "postgresql://127.0.0.1/x", "redis_url": "redis://localhost"}
    assert Settings(**local, enable_auth=True, secret_key=SECRET)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match=name):
        Settings(**(local | change), enable_auth=True, secret_key=SECRET)  # type: ignore[arg-type]


def test_a_weak_first_admin_is_refused_at_the_start() -> None:
    with pytest.raises(ValidationError, match="ATELIER_ADMIN_PASSWORD"):
        Settings(**URLS, enable_auth=True, secret_key=SECRET, admin_password="admin123")  # type: ignore[arg-type]


def test_a_lease_must_outlast_its_heartbeats() -> None:
    with pytest.raises(ValidationError, match="four times"):
        Settings(**URLS, lease_seconds=30, heartbeat_seconds=15)  # type: ignore[arg-type]


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_FAMILIES", "image, toy")
    assert Settings(**URLS).families == ("image", "toy")  # type: ignore[arg-type]


def test_the_way_out_is_read_as_ports_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_EGRESS_PORTS", "8443, 9000")
    monkeypatch.setenv("ATELIER_EGRESS_NETWORKS", "10.1.0.0/16,fd12::/32")
    settings = Settings(**URLS)  # type: ignore[arg-type]
    assert settings.egress_ports == (8443, 9000)
    assert [str(network) for network in settings.egress_networks] == ["10.1.0.0/16", "fd12::/32"]


@pytest.mark.parametrize(
    ("name", "value"), [("PORTS", "0"), ("PORTS", "70000"), ("PORTS", "http"), ("NETWORKS", "10.0.0.1/8")]
)
def test_a_wrong_way_out_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"ATELIER_EGRESS_{name}", value)
    with pytest.raises(ValidationError, match=f"egress_{name.lower()}"):
        Settings(**URLS)  # type: ignore[arg-type]
