"""API keys: `sk_`, eight public characters that find the key, and 43 secret ones (256 bits) that prove it."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass

LETTERS = string.ascii_letters + string.digits
MARK, PREFIX, SECRET = "sk_", 8, 43
SPELLING = re.compile(rf"{MARK}([A-Za-z0-9]{{{PREFIX}}})([A-Za-z0-9]{{{SECRET}}})")


@dataclass(frozen=True, slots=True)
class NewKey:
    """`text` is shown once; the rest is kept."""

    text: str
    prefix: str
    secret_hash: bytes


class KeyMaker:
    """Makes keys, and hashes secrets with the platform's own key: a stolen table alone proves nothing."""

    def __init__(self, pepper: bytes) -> None:
        self._pepper = pepper

    def make(self) -> NewKey:
        prefix, secret = (_random(length) for length in (PREFIX, SECRET))
        return NewKey(MARK + prefix + secret, prefix, self.hash(secret))

    def hash(self, secret: str) -> bytes:
        # A slow hash would protect nothing here: the secret is random, not a word.
        return hmac.digest(self._pepper, secret.encode(), hashlib.sha256)


def split(text: str) -> tuple[str, str] | None:
    """Prefix and secret of what is spelled like a key."""
    found = SPELLING.fullmatch(text)
    return (found[1], found[2]) if found else None


def _random(length: int) -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(length))
