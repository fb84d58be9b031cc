"""Tokens that are not ours, or no longer, are refused, whatever they are made of."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from shared.accounts.tokens import Algorithm, Claims, InvalidToken, TokenSigner, derive
from shared.ids import new_id

SECRET = "a secret of a test that is long enough"
NOW = int(time.time())
CLAIMS = Claims(new_id(), new_id(), new_id())


def signed(change: dict[str, Any], headers: dict[str, Any] | None = None, drop: str = "") -> str:
    """One of our tokens, signed with our key, with something changed."""
    signer = TokenSigner(SECRET, "HS256")
    body = jwt.decode(signer.issue("access", CLAIMS, 60), options={"verify_signature": False}) | change
    body.pop(drop, None)
    return jwt.encode(body, derive(SECRET, "jwt HS256"), "HS256", headers=headers)


def part(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ["HS256", "EdDSA"])
def test_what_was_issued_is_read(algorithm: Algorithm) -> None:
    signer = TokenSigner(SECRET, algorithm)
    assert signer.read(signer.issue("access", CLAIMS, 60), "access") == CLAIMS
    with pytest.raises(InvalidToken):
        signer.read(signer.issue("access", CLAIMS, 60), "refresh")
    with pytest.raises(InvalidToken):
        TokenSigner(SECRET + "x", algorithm).read(signer.issue("access", CLAIMS, 60), "access")
    other: Algorithm = "EdDSA" if algorithm == "HS256" else "HS256"
    with pytest.raises(InvalidToken):
        TokenSigner(SECRET, other).read(signer.issue("access", CLAIMS, 60), "access")


def test_the_public_key_is_no_secret() -> None:
    signer = TokenSigner(SECRET, "EdDSA")
    public = signer._verifying.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    body = jwt.decode(signer.issue("access", CLAIMS, 60), options={"verify_signature": False})
    for key in (public, base64.b64encode(public)):
        with pytest.raises(InvalidToken):
            signer.read(jwt.encode(body, key.ljust(32, b"\0"), "HS256"), "access")


@pytest.mark.hostile("T")
@pytest.mark.parametrize(
    "change",
    [
        {"exp": NOW - 1},
        {"exp": str(NOW + 86_400)},
        {"exp": NOW + 86_400.5},
        {"exp": None},
        {"exp": 1e300},
        {"nbf": NOW + 86_400},
        {"iat": "now"},
        {"aud": "elsewhere"},
        {"iss": "elsewhere"},
        {"typ": "refresh"},
        {"typ": None},
        {"sub": "1 OR 1=1"},
        {"sub": 7},
        {"sid": None},
        {"jti": ""},
    ],
    ids=lambda change: "-".join(f"{name}={type(value).__name__}" for name, value in change.items()),
)
def test_wrong_claims_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        TokenSigner(SECRET, "HS256").read(signed(change), "access")


@pytest.mark.hostile("T")
@pytest.mark.parametrize("name", ["exp", "iat", "sub", "jti", "sid", "typ", "aud", "iss"])
def test_every_claim_is_required(name: str) -> None:
    with pytest.raises(InvalidToken):
        TokenSigner(SECRET, "HS256").read(signed({}, drop=name), "access")


@pytest.mark.hostile("T")
@pytest.mark.parametrize(
    "headers",
    [
        {"kid": "../../dev/null"},
        {"kid": "' UNION SELECT 'x"},
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"jku": "https://example.com/keys"},
        {"x5u": "https://example.com/cert"},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
    ],
    ids=str,
)
def test_no_header_tells_us_which_key_to_use(headers: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        TokenSigner(SECRET, "HS256").read(signed({}, headers), "access")


@pytest.mark.hostile("T")
@pytest.mark.parametrize("name", ["none", "None", "nOnE", "", "HS512", "RS256", None])
def test_no_other_algorithm(name: str | None) -> None:
    body = signed({}).split(".")[1]
    for signature in ("", "AAAA"):
        with pytest.raises(InvalidToken):
            TokenSigner(SECRET, "HS256").read(f"{part({'alg': name, 'typ': 'JWT'})}.{body}.{signature}", "access")


@pytest.mark.hostile("T")
@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "a.b.c.d.e",
        signed({}) + ".x",
        signed({}) + "x",
        signed({})[:-1],
        " " + signed({}),
        "x" * 1_000_000,
        signed({"padding": "x" * 5000}),
        part({"alg": "HS256", "typ": "JWT"}) + "." + part('{"exp": 1e400}') + ".AAAA",
        part("[" * 3000) + ".e30.AAAA",
        "\u2028é.ü.ß",
        "\0.\0.\0",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidToken):
        TokenSigner(SECRET, "HS256").read(text, "access")
