"""Accounts over HTTP, with a real gateway: what people do, and what strangers try."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx
import psycopg2
import pytest

from tests.accounts import AUTH, PASSWORD, Person, login, register
from tests.platform import ROOT, Platform

MANY_FAILURES = "UPDATE attempts SET count = 20, last_at = now() WHERE kind = 'login'"  # a delay of a minute
names = (f"person{n}" for n in itertools.count())


@pytest.fixture(scope="module")
def served(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    platform = Platform(environment | AUTH, tmp_path_factory.mktemp("logs"))
    try:
        yield platform.start("gateway")
    finally:
        platform.close()


@pytest.fixture(autouse=True)
def _forgotten_attempts(environment: dict[str, str]) -> None:
    """All tests come from one address, which the limits count."""
    execute(environment, "DELETE FROM attempts")


@pytest.fixture
def client(served: Platform) -> httpx.Client:
    return served.client


@pytest.fixture
def person(client: httpx.Client) -> Person:
    return register(client, next(names))


def execute(environment: dict[str, str], statement: str, *values: Any) -> list[Any]:
    connection = psycopg2.connect(environment["DATABASE_URL"])
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def test_registering_signs_in(client: httpx.Client) -> None:
    name = next(names)
    body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD, "full_name": "Ada L"}
    made = client.post("/auth/register", json=body)
    told = made.json()
    assert made.status_code == 201
    assert told["success"] is True
    assert told["token"]["token_type"] == "bearer"
    assert told["token"]["expires_in"] == 1800
    assert told["access_token"] == told["token"]["access_token"]
    assert told["user"]["roles"] == ["user"]
    assert made.headers["cache-control"] == "no-store"
    profile = client.get("/auth/profile", headers={"Authorization": f"Bearer {told['access_token']}"}).json()
    assert profile["user"]["full_name"] == "Ada L"
    assert profile["user"]["api_key_count"] == 0
    assert "hash" not in str(profile)


@pytest.mark.hostile("T")
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"username": "ab"}, "username"),
        ({"username": "has space"}, "username"),
        ({"username": "x" * 51}, "username"),
        ({"email": "nowhere"}, "email"),
        ({"full_name": ""}, "full_name"),
        ({"password": "Aa1!x"}, "password"),
        ({"password": "alllower-7"}, "password"),
        ({"password": "NoDigits-here"}, "password"),
        ({"password": "NoSpecial7here"}, "password"),
        ({"password": "MySecurePassword!7"}, "password"),
        ({"password": "Contains-abc-7"}, "password"),
        ({"roles": ["admin"]}, "roles"),
        ({"tier": "enterprise"}, "tier"),
        ({"is_verified": True}, "is_verified"),
        ({"id": "0199a7f0-0000-7000-8000-00000000000a"}, "id"),
    ],
)
def test_a_bad_registration_names_the_field(client: httpx.Client, change: dict[str, Any], field: str) -> None:
    body = {"username": next(names), "email": "a@example.com", "password": PASSWORD, "full_name": "A"} | change
    refused = client.post("/auth/register", json=body)
    assert refused.status_code == 400
    assert refused.json()["details"]["field"] == field
    assert str(change.get("password", "\0")) not in refused.text


def test_a_name_and_an_address_are_taken_once_whatever_their_case(client: httpx.Client, person: Person) -> None:
    body = {"password": PASSWORD, "full_name": "A"}
    name = client.post("/auth/register", json=body | {"username": person.name.upper(), "email": "new@example.com"})
    address = client.post(
        "/auth/register", json=body | {"username": next(names), "email": f"{person.name}@EXAMPLE.com"}
    )
    assert [name.status_code, address.status_code] == [409, 409]
    assert [answer.json()["details"]["field"] for answer in (name, address)] == ["username", "email"]


@pytest.mark.hostile("T")
def test_wrong_name_and_wrong_password_read_alike(client: httpx.Client, person: Person) -> None:
    answers = [
        client.post("/auth/login", json={"username": name, "password": "Wrong-Horse-7"})
        for name in (person.name, "nobody-here")
    ]
    told = [{**answer.json(), "request_id": ""} for answer in answers]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert told[0] == told[1]


def test_failures_slow_down_one_account_and_address_only(
    client: httpx.Client, environment: dict[str, str], person: Person
) -> None:
    wrong = {"username": person.name, "password": "Wrong-Horse-7"}
    assert [client.post("/auth/login", json=wrong).status_code for _ in range(5)] == [401] * 5
    user = client.get("/auth/profile", headers=person.headers).json()["user"]
    assert user["failed_attempts"] == 5
    execute(environment, MANY_FAILURES)
    slowed = client.post("/auth/login", json=wrong | {"password": PASSWORD})
    assert slowed.status_code == 429
    assert 40 <= int(slowed.headers["retry-after"]) <= 62
    user = client.get("/auth/profile", headers=person.headers).json()["user"]
    assert datetime.fromisoformat(user["locked_until"])
    register(client, next(names))  # nobody else waits
    execute(environment, "UPDATE attempts SET last_at = now() - interval '2 minutes'")
    assert login(client, person.name).tokens
    assert client.get("/auth/profile", headers=person.headers).json()["user"]["failed_attempts"] == 0


@pytest.mark.hostile("T")
def test_many_guesses_at_once_are_no_more_than_one_after_the_other(served: Platform, person: Person) -> None:
    def guess(_: int) -> int:
        body = {"username": person.name, "password": "Wrong-Horse-7"}
        return httpx.post(f"{served.client.base_url}/auth/login", json=body, timeout=60).status_code

    began = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(guess, range(20)))
    left, delay, allowed = time.monotonic() - began, 1, 5
    while left > delay:
        left, delay, allowed = left - delay, delay * 2, allowed + 1
    assert found.count(401) <= allowed
    assert found.count(401) + found.count(429) == 20


def test_an_address_cannot_register_without_end(client: httpx.Client) -> None:
    found = []
    for _ in range(12):
        name = next(names)
        body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD, "full_name": "A"}
        found.append(client.post("/auth/register", json=body).status_code)
    assert found == [201] * 10 + [429] * 2


def test_logout_ends_every_session_at_once(client: httpx.Client, person: Person) -> None:
    second = login(client, person.name)
    key = person.key()["api_key"]
    assert client.post("/auth/logout", headers=person.headers).status_code == 200
    for each in (person, second):
        assert client.get("/auth/profile", headers=each.headers).status_code == 401
        refused = client.post("/auth/refresh", json={"refresh_token": each.tokens["refresh_token"]})
        assert refused.status_code == 401
    assert client.get("/auth/profile", headers={"X-API-Key": key}).status_code == 200


def test_a_new_password_voids_every_token(client: httpx.Client, person: Person) -> None:
    body = {"current_password": PASSWORD, "new_password": "Better-Horse-8"}
    wrong = client.put("/auth/password", json=body | {"current_password": "Wrong-Horse-7"}, headers=person.headers)
    assert (wrong.status_code, wrong.json()["details"]["field"]) == (400, "current_password")
    weak = client.put("/auth/password", json=body | {"new_password": "weakweak"}, headers=person.headers)
    assert (weak.status_code, weak.json()["details"]["field"]) == (400, "new_password")
    assert client.put("/auth/password", json=body, headers=person.headers).status_code == 200
    assert client.get("/auth/profile", headers=person.headers).status_code == 401
    assert client.post("/auth/login", json={"username": person.name, "password": PASSWORD}).status_code == 401
    again = client.post("/auth/login", json={"username": person.name, "password": "Better-Horse-8"})
    assert again.status_code == 200


def test_a_refresh_token_serves_once(client: httpx.Client, person: Person) -> None:
    first = person.tokens["refresh_token"]
    following = client.post("/auth/refresh", json={"refresh_token": first})
    assert following.status_code == 200
    fresh = {"Authorization": f"Bearer {following.json()['access_token']}"}
    assert client.get("/auth/profile", headers=fresh).status_code == 200
    # It comes again: somebody has a copy, and nobody can tell who, so the session ends for both.
    assert client.post("/auth/refresh", json={"refresh_token": first}).status_code == 401
    assert client.get("/auth/profile", headers=fresh).status_code == 401
    stolen = client.post("/auth/refresh", json={"refresh_token": following.json()["refresh_token"]})
    assert stolen.status_code == 401


@pytest.mark.hostile("T")
def test_one_kind_of_token_is_not_taken_for_the_other(client: httpx.Client, person: Person) -> None:
    access, refresh = person.tokens["access_token"], person.tokens["refresh_token"]
    assert client.get("/auth/profile", headers={"Authorization": f"Bearer {refresh}"}).status_code == 401
    assert client.post("/auth/refresh", json={"refresh_token": access}).status_code == 401


def test_a_key_is_shown_once_and_only_its_hash_is_kept(
    client: httpx.Client, environment: dict[str, str], person: Person
) -> None:
    made = person.key("jobs:read", expires_in_days=3)
    key, info = made["api_key"], made["key_info"]
    assert key.startswith("sk_")
    for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
        assert client.get("/auth/profile", headers=headers).status_code == 200
    listed = client.get("/auth/api-keys", headers=person.headers)
    assert listed.json()["api_keys"][0]["id"] == info["id"]
    assert listed.json()["api_keys"][0]["last_used_at"]
    assert key[11:] not in listed.text
    rows = execute(environment, "SELECT k::text FROM api_keys k WHERE id = %s", info["id"])
    assert key[11:] not in str(rows)
    wrong = key[:-1] + ("a" if key[-1] != "a" else "b")
    assert client.get("/auth/profile", headers={"X-API-Key": wrong}).status_code == 401
    assert client.delete(f"/auth/api-keys/{info['id']}", headers=person.headers).status_code == 200
    assert client.get("/auth/profile", headers={"X-API-Key": key}).status_code == 401
    assert client.delete(f"/auth/api-keys/{info['id']}", headers=person.headers).status_code == 404


def test_a_key_can_do_less_than_its_owner_and_never_more(client: httpx.Client, person: Person) -> None:
    reader = {"X-API-Key": person.key("jobs:read")["api_key"]}
    assert client.get("/jobs", headers=reader).status_code == 200
    refused = client.post("/toys/play", json={}, headers=reader)
    assert refused.status_code == 403
    assert refused.json()["message"] == "Insufficient permissions. Required scopes: ['jobs:write']"
    more = client.post("/auth/generate-key", json={"name": "k", "scopes": ["ops:read"]}, headers=person.headers)
    assert more.status_code == 403
    unknown = client.post("/auth/generate-key", json={"name": "k", "scopes": ["all"]}, headers=person.headers)
    assert (unknown.status_code, unknown.json()["details"]["field"]) == (400, "scopes")
    by_key = client.post("/auth/generate-key", json={"name": "k"}, headers={"X-API-Key": person.key()["api_key"]})
    assert by_key.status_code == 403


def test_there_are_at_most_ten_keys_however_many_are_asked_for_at_once(served: Platform, person: Person) -> None:
    def make(_: int) -> int:
        address = f"{served.client.base_url}/auth/generate-key"
        return httpx.post(address, json={"name": "k"}, headers=person.headers, timeout=30).status_code

    with ThreadPoolExecutor(12) as pool:
        found = sorted(pool.map(make, range(14)))
    assert found == [201] * 10 + [409] * 4


@pytest.mark.hostile("T")
def test_two_credentials_must_be_one_persons(client: httpx.Client, person: Person) -> None:
    other = register(client, next(names))
    mixed = person.headers | {"X-API-Key": other.key()["api_key"]}
    assert client.get("/auth/profile", headers=mixed).status_code == 401
    assert client.get("/auth/profile", headers=person.headers | {"X-API-Key": person.key()["api_key"]}).is_success
    twice = [("Authorization", person.headers["Authorization"])] * 2
    assert client.get("/auth/profile", headers=twice).status_code == 401


def test_the_body_may_carry_the_credential(client: httpx.Client, person: Person) -> None:
    key = person.key()["api_key"]
    accepted = client.post("/toys/play", json={"token": key, "say": "hello"})
    assert accepted.status_code == 202
    job = client.get(accepted.json()["status_url"], headers=person.headers)
    assert job.status_code == 200
    assert key not in job.text
    reader = person.key("jobs:read")["api_key"]
    assert client.post("/toys/play", json={"token": reader}).status_code == 403
    for wrong in ("sk_nothing", 7, {"a": 1}, ""):
        refused = client.post("/toys/play", json={"token": wrong})
        assert (refused.status_code, refused.json()["message"]) == (401, "Invalid authentication token")
    other = register(client, next(names))
    mixed = client.post("/toys/play", json={"token": key}, headers=other.headers)
    assert mixed.status_code == 401


@pytest.mark.hostile("T")
def test_the_address_carries_no_credential(client: httpx.Client, person: Person) -> None:
    key = person.key()["api_key"]
    for name in ("token", "api_key", "access_token"):
        assert client.get("/auth/profile", params={name: key}).status_code == 401


@pytest.mark.hostile("T")
def test_a_form_is_not_read_before_its_sender_is_known(client: httpx.Client) -> None:
    refused = client.post("/toys/stamp", files={"picture": ("p.png", b"\x89PNG\r\n\x1a\n", "image/png")})
    assert (refused.status_code, refused.json()["message"]) == (401, "Authentication required")


def test_an_admin_sees_and_deletes_accounts(client: httpx.Client, environment: dict[str, str], person: Person) -> None:
    admin = login(client, "operator")
    refused = client.get("/auth/users", headers=person.headers)
    assert refused.json()["message"] == "Insufficient permissions. Required roles: ['admin']"
    page = client.get("/auth/users", params={"limit": 1}, headers=admin.headers).json()
    assert len(page["users"]) == 1
    older = client.get("/auth/users", params={"before": page["next"]}, headers=admin.headers).json()["users"]
    assert page["users"][0]["id"] > older[0]["id"]
    job = client.post("/toys/play", json={}, headers=person.headers).json()["job_id"]
    assert client.delete(f"/auth/users/{person.name}", headers=admin.headers).status_code == 200
    assert client.get("/auth/profile", headers=person.headers).status_code == 401
    assert client.delete(f"/auth/users/{person.name}", headers=admin.headers).status_code == 404
    assert execute(environment, "SELECT state, deleted_at IS NULL FROM jobs WHERE id = %s", job) == [
        ("cancelled", False)
    ]
    last = client.delete("/auth/users/operator", headers=admin.headers)
    assert last.status_code == 409
    assert client.get("/auth/profile", headers=admin.headers).status_code == 200


def test_an_admin_is_made_on_the_server(client: httpx.Client, environment: dict[str, str]) -> None:
    name = next(names)
    command = [sys.executable, "-m", "services.admin", "create", name, f"{name}@example.com"]
    weak = subprocess.run(command, input="weak", env=environment, cwd=ROOT, capture_output=True, text=True)
    assert (weak.returncode, "password" in weak.stderr) == (1, True)
    done = subprocess.run(command, input=PASSWORD + "\n", env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert client.get("/auth/users", headers=login(client, name).headers).status_code == 200


def test_two_gateways_share_accounts_and_limits_through_a_restart(
    served: Platform, environment: dict[str, str], person: Person, tmp_path: Any
) -> None:
    other = Platform(environment | AUTH, tmp_path)
    try:
        other.start("gateway")
        key = {"X-API-Key": person.key()["api_key"]}
        assert other.client.get("/auth/profile", headers=person.headers).status_code == 200
        assert other.client.get("/jobs", headers=key).status_code == 200
        other.terminate("gateway")
        other.start("gateway")
        assert other.client.get("/auth/profile", headers=person.headers).status_code == 200
        wrong = {"username": person.name, "password": "Wrong-Horse-7"}
        for each in (served, other):
            assert each.client.post("/auth/login", json=wrong).status_code == 401
        assert other.client.get("/auth/profile", headers=person.headers).json()["user"]["failed_attempts"] == 2
        execute(environment, MANY_FAILURES)
        assert [each.client.post("/auth/login", json=wrong).status_code for each in (served, other)] == [429] * 2
        assert served.client.post("/auth/logout", headers=person.headers).status_code == 200
        assert other.client.get("/auth/profile", headers=person.headers).status_code == 401
    finally:
        other.close()


def test_without_authentication_there_are_no_accounts(environment: dict[str, str], tmp_path: Any) -> None:
    platform = Platform(environment, tmp_path)
    try:
        platform.start("gateway")
        refused = platform.client.post("/auth/login", json={"username": "a", "password": "b"})
        assert (refused.status_code, refused.json()["error"]) == (503, "auth_disabled")
        assert platform.client.get("/jobs").status_code == 200
    finally:
        platform.close()
