"""People and keys for tests of a gateway with authentication."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import httpx

SECRET = secrets.token_urlsafe(48)
PASSWORD = "Correct-Horse-7"
AUTH = {
    "ENABLE_AUTH": "true",
    "ATELIER_SECRET_KEY": SECRET,
    "ATELIER_ADMIN_PASSWORD": PASSWORD,
    "ATELIER_RATE_LIMITS": "false",  # all tests come from one address
}


@dataclass
class Person:
    """A signed-in account."""

    client: httpx.Client
    name: str
    tokens: dict[str, Any]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens['access_token']}"}

    def key(self, *scopes: str, **more: Any) -> dict[str, Any]:
        """A new key's reply."""
        asked = {"name": "a key", "scopes": list(scopes), **more}
        made = self.client.post("/auth/generate-key", json=asked, headers=self.headers)
        assert made.status_code == 201, made.text
        return made.json()


def register(client: httpx.Client, name: str) -> Person:
    body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD, "full_name": name.title()}
    made = client.post("/auth/register", json=body)
    assert made.status_code == 201, made.text
    return Person(client, name, made.json()["token"])


def login(client: httpx.Client, name: str) -> Person:
    made = client.post("/auth/login", json={"username": name, "password": PASSWORD})
    assert made.status_code == 200, made.text
    return Person(client, name, made.json()["token"])
