"""Where authentication is on: the stack's secret, and whose name the first job gets."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import httpx


def is_on(environment: dict[str, str]) -> bool:
    """Whether the gateway will ask who calls."""
    return environment.get("ENABLE_AUTH", "").lower() in {"1", "true", "yes", "on", "t", "y"}


def kept_secret(path: Path) -> str:
    """The secret in this file, which is made at the first start: tokens and keys outlive a restart."""
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(48))
    return path.read_text()


def sign_in(url: str, name: str, password: str) -> dict[str, str]:
    """Headers of a session; raises httpx.HTTPStatusError."""
    answer = httpx.post(f"{url}/auth/login", json={"username": name, "password": password}, timeout=30)
    answer.raise_for_status()
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}
