"""Secrets planted everywhere in a running platform, at DEBUG: no process writes one of them down."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.accounts import AUTH, PASSWORD, Person, login, register
from tests.platform import Platform
from workers.runtime.logged_inputs import LETTERS

LOUD = {"LOG_LEVEL": "DEBUG", "ATELIER_ACCESS_LOG": "true", "ATELIER_LOG_INPUTS": "start"}
PROCESSES = ("gateway", "coordinator", "worker")


@dataclass
class World:
    """The platform, somebody in it, and every secret so far by the place where it was put."""

    platform: Platform
    person: Person
    planted: dict[str, str] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)

    def new(self, place: str) -> str:
        """A secret that is nowhere else, so that it can be looked for."""
        secret = secrets.token_hex(22)[:43]
        self.planted[secret] = place
        return secret

    def logs(self) -> str:
        return "".join((self.platform.logs / f"{name}.log").read_text() for name in PROCESSES)


@pytest.fixture(scope="module")
def world(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    platform = Platform(environment | AUTH | LOUD, tmp_path_factory.mktemp("logs"))
    try:
        platform.start("gateway", "coordinator")
        person = register(platform.client, "ada")
        platform.client.headers.update(person.headers)  # for asking whether the worker is there
        platform.start("worker")
        yield World(platform, person)
    finally:
        platform.close()


# What secrets look like, and where one can be put. The shapes are known wherever they stand.
SHAPES = {
    "a key": "sk_abcdefgh{}",
    "a token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{}",
    "a webhook's secret": "whsec_{}",
    "a bearer": "Bearer {}",
    "a password": "password={}",
    "an address's user": "https://user:{}@example.com/a.png",
    "a signed address": "https://example.com/a.png?sig={}",
    "a DSN": "postgresql://atelier:{}@db.internal/atelier",
}
BODIES = ("token field", "unknown field", "picture", "said", "raised")
PLACES = (
    *BODIES,
    "authorization",
    "x-api-key",
    "cookie",
    "user-agent",
    "x-request-id",
    "idempotency-key",
    "query",
    "path",
    "login",
    "register",
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=st.sampled_from(sorted(SHAPES)), place=st.sampled_from(PLACES), bare=st.booleans())
def test_whatever_a_client_sends_is_not_written_down(world: World, shape: str, place: str, bare: bool) -> None:
    # A bare secret has no shape. These are logged, as what they are: the path, a request's name, what a job was asked.
    bare = bare and place not in ("path", "x-request-id", "said", "raised")
    secret = world.new(f"{place}, {'bare' if bare else shape}")
    answer = send(world, place, secret if bare else SHAPES[shape].format(secret))
    assert answer.status_code < 500
    if answer.status_code == 202:
        world.jobs.append(answer.json()["job_id"])


def send(world: World, place: str, text: str) -> httpx.Response:
    http, headers = world.platform.client, dict(world.person.headers)
    if place == "query":
        return http.get("/jobs", params={"token": text, text: "1"}, headers=headers)
    if place == "path":
        return http.get(f"/status/{text.replace('?', '/').replace('#', '/')}", headers=headers)
    if place == "login":
        return http.post("/auth/login", json={"username": f"nobody-{secrets.token_hex(4)}", "password": text[:128]})
    if place == "register":
        return http.post("/auth/register", json={"username": "ada", "email": text[:200], "password": text[:120]})
    if place in BODIES:
        bodies: dict[str, dict[str, Any]] = {
            "token field": {"token": text},
            "unknown field": {text: text, "password": text},
            "picture": {"picture": text},
            "said": {"say": text},
            "raised": {"say": text, "fail": "tell"},
        }
        path = "/toys/stamp" if place == "picture" else "/toys/play"
        return http.post(path, json=bodies[place], headers=headers)
    return http.post("/toys/play", json={}, headers=headers | {place: text})


def test_no_process_has_written_one_down(world: World) -> None:
    """Runs after the requests above, and adds what one person's day brings."""
    environment, http = world.platform.environment, world.platform.client
    key, refresh = world.person.key()["api_key"], world.person.tokens["refresh_token"]
    world.planted |= {
        key[11:]: "a real key",
        refresh: "a refresh token",
        world.person.tokens["access_token"]: "a token",
    }
    world.planted |= {PASSWORD: "the password", AUTH["ATELIER_SECRET_KEY"]: "the platform's secret"}
    for name in ("DATABASE_URL", "REDIS_URL"):
        world.planted[urlsplit(environment[name]).password or "?"] = name
    basic = base64.b64encode(f"ada:{world.new('basic')}".encode()).decode()
    world.planted[basic] = "basic, as it is sent"

    login(http, "ada")
    wrong = world.new("a wrong password")
    assert http.post("/auth/login", json={"username": "ada", "password": wrong}).status_code == 401
    assert http.get("/jobs", headers={"Authorization": f"Basic {basic}"}).status_code == 401
    with_user = f"https://u:{world.new('userinfo')}@example.com/a.png"
    refused = http.post("/toys/stamp", json={"picture": with_user}, headers={"X-API-Key": key})
    assert (refused.status_code, refused.json()["details"]["field"]) == (400, "picture")
    signed = f"http://127.0.0.1/a.png?X-Amz-Signature={world.new('a signature')}"
    fetched = http.post("/toys/stamp", json={"picture": signed}, headers={"X-API-Key": key})
    raised = http.post(
        "/toys/play", json={"fail": "tell", "say": f"whsec_{world.new('raised')}"}, headers={"X-API-Key": key}
    )
    assert http.post("/auth/refresh", json={"refresh_token": refresh}).status_code == 200
    assert world.platform.finished(fetched.json()["job_id"])["error"]["code"] == "fetch_refused"
    for job_id in [*world.jobs, raised.json()["job_id"]]:
        world.platform.finished(job_id)

    output = world.logs()
    assert {place for secret, place in world.planted.items() if secret in output} == set()
    assert "RuntimeError: it failed: whsec" not in output
    assert "RuntimeError: it failed: [redacted]" in output, "the worker's tracebacks are there"


def test_every_line_is_json_and_names_its_job(world: World) -> None:
    for name in PROCESSES:
        lines = [json.loads(line) for line in (world.platform.logs / f"{name}.log").read_text().splitlines()]
        assert {line["process"] for line in lines} == {name}
    failed = [line for line in lines if line["event"] == "attempt failed"]
    assert failed
    assert all(line["job"] and line["attempt"] for line in failed)


def test_prompts_are_cut(world: World) -> None:
    lines = [json.loads(line) for line in (world.platform.logs / "worker.log").read_text().splitlines()]
    said = [line["input"]["say"] for line in lines if line["event"] == "attempt started" and "say" in line["input"]]
    assert any(said)
    assert all(len(text) <= LETTERS + 1 for text in said)
