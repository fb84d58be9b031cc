"""Reads JSON bodies strictly: what Python's parser lets pass (NaN, duplicate keys, lone surrogates) is refused.

No message repeats the offending value: echoing what could not be encoded is how a bad request becomes a 500.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any, NoReturn

from starlette.requests import Request

from shared.errors import PayloadTooLarge, ValidationFailed

MAX_DEPTH = 32
MAX_KEYS = 1000
MAX_DIGITS = 19  # 2^63 - 1 has 19

STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
BRACKET = re.compile(rb"[\[\]{}]")
SURROGATE = re.compile("[\ud800-\udfff]")


async def read_body(request: Request, limit: int) -> bytes:
    """The request's body; raises PayloadTooLarge before more than `limit` bytes are held."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large(limit)
    return bytes(body)


def read_json(body: bytes) -> Any:
    """The document; raises ValidationFailed that says what is wrong with it and where."""
    if not body:
        raise ValidationFailed("The body is empty; JSON is expected.", field="body")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValidationFailed(f"The body is not UTF-8 (byte {error.start}).", field="body") from None
    if text.startswith("\ufeff"):
        raise ValidationFailed("The body must not start with a byte order mark.", field="body")
    _check_depth(body)
    reader = _Reader()
    try:
        value = json.loads(
            text,
            object_pairs_hook=reader.object,
            parse_constant=reader.constant,
            parse_float=reader.float,
            parse_int=reader.integer,
        )
    except json.JSONDecodeError as error:
        raise ValidationFailed(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.", field="body"
        ) from None
    if not body.isascii() or b"\\u" in body:
        value = _checked_text(value, "body")
    return value


def _check_depth(body: bytes) -> None:
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in BRACKET.findall(STRING.sub(b"", body)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise ValidationFailed(f"The body is nested deeper than {MAX_DEPTH} levels.", field="body")


class _Reader:
    """The parser's hooks for one document."""

    def __init__(self) -> None:
        self._keys = 0

    def object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._keys += len(pairs)
        if self._keys > MAX_KEYS:
            raise ValidationFailed(f"The body has more than {MAX_KEYS} keys.", field="body")
        value = dict(pairs)
        if len(value) != len(pairs):
            raise ValidationFailed("An object names one key twice.", field="body")
        return value

    def constant(self, _: str) -> NoReturn:
        raise ValidationFailed("NaN and Infinity are not JSON.", field="body")

    def float(self, text: str) -> float:
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise ValidationFailed("A number is too large.", field="body")
        # For JSON Schema 5.0 is an integer; beyond 2^53 a float no longer says which one.
        return int(value) if value.is_integer() and abs(value) <= 2**53 else value

    def integer(self, text: str) -> int:
        if len(text) > MAX_DIGITS + text.startswith("-"):
            raise ValidationFailed("An integer has too many digits.", field="body")
        value = int(text)
        if not -(2**63) <= value < 2**63:
            raise ValidationFailed("An integer is out of range.", field="body")
        return value


def _checked_text(value: Any, place: str) -> Any:
    """The same document with its strings in NFC; refuses NUL and lone surrogates."""
    if isinstance(value, str):
        if "\0" in value or SURROGATE.search(value):
            raise ValidationFailed("Text must not hold NUL or lone surrogates.", field=place.removeprefix("body."))
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return [_checked_text(item, f"{place}.{n}") for n, item in enumerate(value)]
    if isinstance(value, dict):
        return {_checked_text(key, place): _checked_text(item, f"{place}.{key}") for key, item in value.items()}
    return value


def too_large(limit: int) -> PayloadTooLarge:
    """The body is larger than so many bytes."""
    return PayloadTooLarge(f"The body is larger than {limit} bytes.", details={"limit": limit})
