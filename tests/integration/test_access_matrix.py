"""Every route × every kind of caller. The table is written by hand; a route that it lacks fails the test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount

from services.gateway.app import make_app
from services.gateway.auth.access import DOCUMENTATION
from shared.ids import new_id
from shared.settings import get_settings
from tests.accounts import AUTH, login, register
from tests.integration.test_accounts import execute
from tests.platform import Platform
from workers.families import families

PUBLIC, SIGNED_IN, ACCOUNT, ADMIN = "public", "signed in", "account", "admin"

# What a caller needs: PUBLIC, any ACCOUNT, a password's session (SIGNED_IN), the ADMIN role, or the named scope.
TABLE = {
    "GET /": PUBLIC,
    "GET /health": PUBLIC,
    "GET /ready": PUBLIC,
    "GET /examples": PUBLIC,
    "POST /auth/register": PUBLIC,
    "POST /auth/login": PUBLIC,
    "POST /auth/refresh": PUBLIC,
    "GET /auth/profile": ACCOUNT,
    "POST /auth/logout": SIGNED_IN,
    "PUT /auth/password": SIGNED_IN,
    "POST /auth/generate-key": SIGNED_IN,
    "GET /auth/api-keys": SIGNED_IN,
    "DELETE /auth/api-keys/{key_id}": SIGNED_IN,
    "GET /auth/users": ADMIN,
    "DELETE /auth/users/{name}": ADMIN,
    "GET /models": "jobs:read",
    "GET /models/status": "jobs:read",
    "GET /audio/health": "jobs:read",
    "GET /tts/health": "jobs:read",
    "GET /models/available": "jobs:read",
    "GET /models/managed": "jobs:read",
    "GET /models/cache/info": "jobs:read",
    "GET /models/download/status/{job_id}": "jobs:read",
    "GET /models/download/{name}/info": "jobs:read",
    "DELETE /models/download/{name}": "models:manage",
    "POST /models/manage": "models:manage",
    "POST /models/{name}/load": "models:manage",
    "POST /models/{name}/unload": "models:manage",
    "POST /models/{name}/resume": "models:manage",
    "GET /metrics": "ops:read",
    "GET /info": "jobs:read",
    "GET /stats": "ops:read",
    "GET /config": "ops:read",
    "GET /metrics/prometheus": "ops:read",
    "GET /jobs": "jobs:read",
    "GET /jobs/{job_id}": "jobs:read",
    "GET /jobs/{job_id}/attempts": "logs:read",
    "GET /status/{job_id}": "jobs:read",
    "GET /status/{job_id}/events": "jobs:read",
    "POST /status/{job_id}/events/ticket": "jobs:read",
    "GET /usage": "jobs:read",
    "GET /results/{job_id}": "jobs:read",
    "HEAD /results/{job_id}": "jobs:read",
    "GET /results/{job_id}/files/{name:path}": "jobs:read",
    "HEAD /results/{job_id}/files/{name:path}": "jobs:read",
    "POST /jobs/{job_id}/cancel": "jobs:write",
    "DELETE /jobs/{job_id}": "jobs:write",
    "POST /uploads": "jobs:write",
    "OPTIONS /uploads": PUBLIC,
    "GET /uploads": "jobs:read",
    "OPTIONS /uploads/{upload_id}": PUBLIC,
    "GET /uploads/{upload_id}": "jobs:read",
    "HEAD /uploads/{upload_id}": "jobs:read",
    "PATCH /uploads/{upload_id}": "jobs:write",
    "POST /uploads/{upload_id}": "jobs:write",
    "DELETE /uploads/{upload_id}": "jobs:write",
    "POST /webhooks": "webhooks:manage",
    "GET /webhooks": "webhooks:manage",
    "GET /webhooks/{webhook_id}": "webhooks:manage",
    "PATCH /webhooks/{webhook_id}": "webhooks:manage",
    "DELETE /webhooks/{webhook_id}": "webhooks:manage",
    "GET /webhooks/{webhook_id}/secret": "webhooks:manage",
    "POST /webhooks/{webhook_id}/rotate-secret": "webhooks:manage",
    "POST /webhooks/{webhook_id}/test": "webhooks:manage",
    "GET /webhooks/{webhook_id}/deliveries": "webhooks:manage",
    "POST /webhooks/{webhook_id}/deliveries/{event_id}/redeliver": "webhooks:manage",
    "POST /webhooks/{webhook_id}/redeliver": "webhooks:manage",
} | {f"POST {path}": op.access for family in families().values() for op in family.operations for path in op.paths}

# What an admin is shown of anybody's job.
ANYBODYS = {"GET /jobs/{job_id}/attempts"}

# Where an empty object is refused before anybody looks whose it is.
BODIES = {
    "POST /webhooks/{webhook_id}/redeliver": b'{"since": "2026-01-01T00:00:00Z"}',
    "PATCH /uploads/{upload_id}": None,
}

MODELS = """
INSERT INTO models (family, kind, name, title, reported_by)
VALUES ('image', 'model', 'house-shapes', 'House', 'test'), ('avatar', 'model', 'house-heads', 'House', 'test'),
    ('predict', 'model', 'example', 'Example', 'test')
"""
CALLERS = (
    "owner",
    "owner's key",
    "owner's reading key",
    "other owner",
    "admin",
    "admin's key",
    "revoked key",
    "expired key",
    "signed out",
    "forged token",
    "nobody",
)
STRANGERS = {"revoked key", "expired key", "signed out", "forged token", "nobody"}
KEYS = {"owner's key", "owner's reading key", "admin's key"}
ADMINS = {"admin", "admin's key"}


@dataclass
class World:
    """A gateway, its callers' headers, and a job of the owner for each route that would end one."""

    client: httpx.Client
    headers: dict[str, dict[str, str]]
    owner: str
    environment: dict[str, str]

    def job(self, state: str) -> str:
        """A fresh job of the owner's."""
        job_id = str(new_id())
        ended = state == "completed"
        execute(
            self.environment,
            """INSERT INTO jobs (id, owner, family, operation, input, state, turn, attempt, result_attempt, output,
                manifest, finished_at)
            VALUES (%s, %s, 'toy', 'toy.play', '{}', %s, 1, %s, %s, %s, '[]', CASE WHEN %s THEN now() END)""",
            job_id,
            self.owner,
            state,
            int(ended),
            1 if ended else None,
            json.dumps({"said": "", "steps": 0, "files": 0}),
            ended,
        )
        return job_id

    def webhook(self) -> str:
        """A fresh webhook of the owner's."""
        made = self.client.post("/webhooks", json={"url": "https://example.com"}, headers=self.headers["owner"])
        return str(made.json()["id"])

    def upload(self) -> str:
        """A fresh upload of the owner's."""
        made = self.client.post("/uploads", headers=self.headers["owner"] | {"Upload-Length": "2"})
        return str(made.json()["id"])

    def ask(self, route: str, caller: str, subject: str = "") -> httpx.Response:
        """The route, as this caller, for this job, webhook or upload; an empty body where one is expected."""
        method, path = route.split(" ")
        path = path.replace("{job_id}", subject).replace("{name:path}", "manifest.json")
        path = path.replace("{webhook_id}", subject).replace("{event_id}", str(new_id()))
        path = path.replace("{upload_id}", subject)
        path = path.replace("{key_id}", str(new_id())).replace("{name}", "nobody-here")
        sent = BODIES.get(route, b"{}") if method in ("POST", "PUT", "PATCH") else None
        body = {"content": sent} if sent is not None else {}
        headers = self.headers[caller] | ({"Content-Type": "application/json"} if body else {})
        return self.client.request(method, path, headers=headers, **body)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def world(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    platform = Platform(environment | AUTH, tmp_path_factory.mktemp("logs"))
    try:
        platform.start("gateway")
        yield make_world(platform, environment)
    finally:
        platform.close()


def make_world(platform: Platform, environment: dict[str, str]) -> World:
    client = platform.client
    execute(environment, MODELS)
    owner, other, leaver = (register(client, name) for name in ("owner", "other", "leaver"))
    admin = login(client, "operator")
    revoked, expired = owner.key(), owner.key()
    client.delete(f"/auth/api-keys/{revoked['key_info']['id']}", headers=owner.headers)
    execute(
        environment,
        "UPDATE api_keys SET expires_at = now() - interval '1 s' WHERE id = %s",
        expired["key_info"]["id"],
    )
    client.post("/auth/logout", headers=leaver.headers)
    head, body, _ = owner.tokens["access_token"].split(".")
    profile = client.get("/auth/profile", headers=owner.headers).json()
    return World(
        client,
        {
            "owner": owner.headers,
            "owner's key": _by_key(owner.key()),
            "owner's reading key": _by_key(owner.key("jobs:read")),
            "other owner": other.headers,
            "admin": admin.headers,
            "admin's key": _by_key(admin.key()),
            "revoked key": _by_key(revoked),
            "expired key": _by_key(expired),
            "signed out": leaver.headers,
            "forged token": {"Authorization": f"Bearer {head}.{body}.{'A' * 43}"},
            "nobody": {},
        },
        profile["user"]["id"],
        environment,
    )


def _by_key(made: dict[str, Any]) -> dict[str, str]:
    return {"X-API-Key": made["api_key"]}


def routes() -> set[str]:
    """All that the application serves, but its documentation."""
    found = set()
    for route in iter_route_contexts(make_app(get_settings(), families()).routes):
        if not isinstance(route.original_route, Mount) and route.path not in DOCUMENTATION:
            found |= {f"{method} {route.path}" for method in route.methods or ()}
    return found


def test_the_table_names_every_route() -> None:
    assert routes() == set(TABLE)


def expected(need: str, caller: str) -> set[int]:
    """The refusal that the caller must meet; empty if there must be none."""
    if need == PUBLIC:
        return set()
    if caller in STRANGERS:
        return {401}
    if need == ADMIN:
        return set() if caller in ADMINS else {403}
    if need == SIGNED_IN:
        return {403} if caller in KEYS else set()
    if need in ("ops:read", "logs:read", "models:manage"):
        return set() if caller in ADMINS else {403}
    if need in ("jobs:write", "webhooks:manage") and caller == "owner's reading key":
        return {403}
    return set()


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("route", sorted(TABLE))
def test_who_may_do_what(world: World, route: str, caller: str) -> None:
    if (route, caller) in {("POST /auth/logout", name) for name in CALLERS if name not in STRANGERS | KEYS}:
        pytest.skip("it would end the session that the other rows use; test_accounts.py has it")
    ends = route.startswith("DELETE") or route.endswith("/files/{name:path}") or "/results/" in route
    subject = ""
    if "{job_id}" in route:
        subject = world.job("completed" if ends else "queued")
    elif "{webhook_id}" in route:
        subject = world.webhook()
    elif "{upload_id}" in route:
        subject = world.upload()
    if route.endswith("/events"):
        world.client.post(f"/jobs/{subject}/cancel", headers=world.headers["owner"])  # else the stream goes on
    answer = world.ask(route, caller, subject)
    for made in ("/webhooks/{webhook_id}", "/uploads/{upload_id}"):  # an owner may have so many
        if made in route:
            world.ask(f"DELETE {made}", "owner", subject)
    assert answer.status_code < 500, answer.text
    if refusal := expected(TABLE[route], caller):
        assert answer.status_code in refusal
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"].startswith("Bearer")
        return
    assert answer.status_code != 403
    if TABLE[route] != PUBLIC:
        assert answer.status_code != 401
    if route in ANYBODYS:
        assert (answer.status_code, answer.json()) == (200, {"job_id": subject, "attempts": []})
        assert world.ask(route, caller, str(new_id())).status_code == 404
        return
    if subject and TABLE[route] != PUBLIC and caller in ADMINS | {"other owner"}:
        unknown = world.ask(route, caller, str(new_id()))
        assert (answer.status_code, _body(answer)) == (unknown.status_code, _body(unknown)) == (404, _body(unknown))


def _body(answer: httpx.Response) -> Any:
    return {**answer.json(), "request_id": ""} if answer.content else None


def test_lists_hold_nothing_foreign(world: World) -> None:
    job_id = world.job("queued")
    assert job_id in world.ask("GET /jobs", "owner").text
    for caller in ("other owner", "admin"):
        assert job_id not in world.ask("GET /jobs", caller).text


def test_idempotency_keys_are_each_owners_own(world: World) -> None:
    def submit(caller: str) -> httpx.Response:
        headers = world.headers[caller] | {"Idempotency-Key": "the-same"}
        return world.client.post("/toys/play", json={"say": caller}, headers=headers)

    first, second, again = submit("owner"), submit("other owner"), submit("owner")
    assert first.json()["job_id"] != second.json()["job_id"]
    assert again.json()["job_id"] == first.json()["job_id"]
    assert submit("owner's key").status_code == 422  # the same owner, another body
