"""JSON Web Tokens (RFC 7519) of one pinned algorithm. A token is worth nothing without its session's row."""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.ids import parse_id

Kind = Literal["access", "refresh"]
Algorithm = Literal["HS256", "EdDSA"]
ISSUER = AUDIENCE = "atelier"
LONGEST = 4096  # characters
REQUIRED = ["exp", "iat", "sub", "jti", "sid", "typ", "aud", "iss"]


class InvalidToken(Exception):
    """Forged, expired, of another kind, or not a token at all. Which of these is nobody's business."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says: whose it is, of which session, and its own id."""

    user_id: UUID
    session_id: UUID
    token_id: UUID


def derive(secret: str, purpose: str) -> bytes:
    """A 256-bit key for one purpose out of the platform's secret."""
    return hmac.digest(secret.encode(), purpose.encode(), hashlib.sha256)


class TokenSigner:
    """Issues and reads tokens; the key is derived from the platform's secret, for either algorithm."""

    def __init__(self, secret: str, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        self._signing: Any = derive(secret, f"jwt {algorithm}")
        self._verifying: Any = self._signing
        if algorithm == "EdDSA":
            self._signing = Ed25519PrivateKey.from_private_bytes(self._signing)
            self._verifying = self._signing.public_key()

    def issue(self, kind: Kind, claims: Claims, seconds: float) -> str:
        """A token that holds for so many seconds."""
        now = int(time.time())
        body = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(claims.user_id),
            "sid": str(claims.session_id),
            "jti": str(claims.token_id),
            "typ": kind,
            "iat": now,
            "exp": now + int(seconds),
        }
        return jwt.encode(body, self._signing, self._algorithm)

    def read(self, token: str, kind: Kind) -> Claims:
        """What the token says; raises InvalidToken."""
        try:
            if len(token) > LONGEST or set(jwt.get_unverified_header(token)) != {"alg", "typ"}:
                raise InvalidToken
            body = jwt.decode(
                token,
                self._verifying,
                algorithms=[self._algorithm],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": REQUIRED},
            )
        # Whatever a library makes of hostile text, it is no token.
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError):
            raise InvalidToken from None
        ids = [parse_id(body[name]) if isinstance(body[name], str) else None for name in ("sub", "sid", "jti")]
        if body["typ"] != kind or not all(type(body[name]) is int for name in ("exp", "iat")) or None in ids:
            raise InvalidToken
        user_id, session_id, token_id = (found for found in ids if found)
        return Claims(user_id, session_id, token_id)
