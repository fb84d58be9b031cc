"""Signatures of Standard Webhooks 1.0: HMAC-SHA256 (`v1`) and Ed25519 (`v1a`).

Signed is `{webhook-id}.{webhook-timestamp}.{body}`. The specification: https://github.com/standard-webhooks.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Sequence
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Signing = Literal["hmac", "ed25519"]

HMAC_PREFIX, PRIVATE_PREFIX, PUBLIC_PREFIX = "whsec_", "whsk_", "whpk_"
KEY_BYTES = 32


def new_secret(signing: Signing) -> str:
    """A fresh secret: `whsec_…`, or the private key `whsk_…` (a seed of 32 bytes)."""
    prefix = HMAC_PREFIX if signing == "hmac" else PRIVATE_PREFIX
    return prefix + _text(secrets.token_bytes(KEY_BYTES))


def signing_of(secret: str) -> Signing:
    """Which of the two this secret is for."""
    return "hmac" if secret.startswith(HMAC_PREFIX) else "ed25519"


def shown(secret: str) -> dict[str, str | None]:
    """What the receiver needs to verify: the shared secret, or the public key and never the private one."""
    if signing_of(secret) == "hmac":
        return {"secret": secret, "public_key": None}
    return {"secret": None, "public_key": PUBLIC_PREFIX + _text(_private(secret).public_key().public_bytes_raw())}


def signed_headers(keys: Sequence[str], event_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers; one signature a key, the newest first. `timestamp` is the try's, in Unix seconds."""
    content = f"{event_id}.{timestamp}.".encode() + body
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(_signature(key, content) for key in keys),
    }


def _signature(secret: str, content: bytes) -> str:
    if signing_of(secret) == "hmac":
        return "v1," + _text(hmac.digest(base64.b64decode(secret.removeprefix(HMAC_PREFIX)), content, "sha256"))
    return "v1a," + _text(_private(secret).sign(content))


def _private(secret: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(secret.removeprefix(PRIVATE_PREFIX)))


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode("ascii")
