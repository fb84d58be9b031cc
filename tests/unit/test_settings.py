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


DISTANT = {"database_url": "postgresql://app:{}@db.internal/x", "redis_url": "redis://:{}@cache.internal:6379/0"}
KNOWN = ["postgres", "changeme", "Change-Me!", "minioadmin", "password", "Password1!", "atelier", "12345678", "", "%20"]


@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("field", DISTANT)
def test_a_password_that_everybody_knows_is_refused_by_every_process(field: str, known: str) -> None:
    change = {field: DISTANT[field].format(known)}
    with pytest.raises(ValidationError, match=field.upper()):
        Settings(**(URLS | change))  # type: ignore[arg-type]
    assert Settings(**(URLS | {field: DISTANT[field].format("Yx7-kdQ2_m")}))  # type: ignore[arg-type]


def test_the_users_own_name_is_no_password() -> None:
    with pytest.raises(ValidationError, match="DATABASE_URL"):
        Settings(**(URLS | {"database_url": "postgresql://painter:painter@db/x"}))  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="DATABASE_URL"):
        Settings(**(URLS | {"database_url": "postgresql://painter@db/x?password=changeme"}))  # type: ignore[arg-type]


def test_on_this_machine_alone_it_may_be_a_sample() -> None:
    local = URLS | {"database_url": "postgresql://postgres:postgres@localhost/x", "redis_url": "redis://localhost"}
    assert Settings(**local, enable_auth=True, secret_key=SECRET)  # type: ignore[arg-type]
    for reached in ({"host": "0.0.0.0"}, {"trusted_proxies": "127.0.0.1"}):
        with pytest.raises(ValidationError, match="DATABASE_URL"):
            Settings(**local, **reached, enable_auth=True, secret_key=SECRET)  # type: ignore[arg-type]


def test_a_stores_sample_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "minioadmin")
    assert Settings(**URLS, s3_endpoint_url="http://127.0.0.1:9000")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="AWS_SECRET_ACCESS_KEY"):
        Settings(**URLS, s3_endpoint_url="http://storage:9000")  # type: ignore[arg-type]


def test_the_documentations_example_is_no_admins_password_where_others_come() -> None:
    given = {"enable_auth": True, "secret_key": SECRET, "admin_password": "Correct-Horse-7"}
    assert Settings(**URLS, **given)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="ATELIER_ADMIN_PASSWORD"):
        Settings(**URLS, **given, host="0.0.0.0")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "auth", [None, "operator:", ":only-a-password-7x", "operator", "operator:operator", "a:changeme"]
)
def test_flower_on_the_network_needs_a_password(auth: str | None) -> None:
    assert Settings(**URLS).flower_auth is None  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="ATELIER_FLOWER_AUTH"):
        Settings(**URLS, flower_host="0.0.0.0", flower_auth=auth)  # type: ignore[arg-type]
    assert Settings(**URLS, flower_host="0.0.0.0", flower_auth="operator:Yx7-kdQ2_m")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "origins",
    ["*, https://app.example.com", "app.example.com", "https://app.example.com/", "https://a.example.com/b", "null"],
)
def test_origins_that_make_no_sense_are_refused(origins: str) -> None:
    with pytest.raises(ValidationError, match="ATELIER_CORS_ORIGINS"):
        Settings(**URLS, cors_origins=origins, public_without_auth=True)  # type: ignore[arg-type]
    good = "https://app.example.com, http://localhost:3000, http://[::1]:3000"
    assert len(Settings(**URLS, cors_origins=good).cors_origins) == 3  # type: ignore[arg-type]


def test_all_origins_without_authentication_must_be_said_twice() -> None:
    with pytest.raises(ValidationError, match="ATELIER_PUBLIC_WITHOUT_AUTH"):
        Settings(**URLS, cors_origins="*")  # type: ignore[arg-type]
    assert Settings(**URLS, cors_origins="*", enable_auth=True, secret_key=SECRET)  # type: ignore[arg-type]


@pytest.mark.parametrize("proxies", ["*", "proxy.internal", "0.0.0.0/0", "::/0"])
def test_not_everybody_is_a_trusted_proxy(proxies: str) -> None:
    with pytest.raises(ValidationError, match=r"(?i)trusted_proxies"):
        Settings(**URLS, trusted_proxies=proxies)  # type: ignore[arg-type]
    found = Settings(**URLS, trusted_proxies="10.1.2.3, 10.2.0.0/16, fd12::1").trusted_proxies  # type: ignore[arg-type]
    assert len(found) == 3


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"DATABASE_URL": "postgresql://app:changeme@db/x"}, "DATABASE_URL"),
        ({"ATELIER_PORT": "http"}, "ATELIER_PORT"),
        ({"ATELIER_TRUSTED_PROXIES": "*"}, "ATELIER_TRUSTED_PROXIES"),
    ],
)
def test_a_wrong_setting_stops_the_process_with_one_line(change: dict[str, str], name: str) -> None:
    command = [sys.executable, "-c", "from shared.settings import get_settings; get_settings()"]
    environment = {key.upper(): value for key, value in URLS.items()} | change
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert name in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "changeme" not in done.stderr


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
