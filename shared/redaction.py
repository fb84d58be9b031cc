"""What no log line may say: credentials, passwords, the secret parts of addresses. They are found by name and by shape.

It errs on the side of saying too little: what stands without quotes behind `password=` is gone up to the next space.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

GONE = "[redacted]"
LONGEST = 32_768  # characters of one text that are logged
DEEPEST = 8  # levels of a nested field
SHORTEST = 8  # characters of a secret that is told from other text

# Part of a name: X-API-Key, ATELIER_SECRET_KEY, new_password, Set-Cookie, X-Amz-Signature, …
SECRET_NAME = re.compile(
    r"passw|passphrase|pwd|secret|token(?!iz)|api[_-]?key|access[_-]?key|private[_-]?key|authorization|cookie"
    r"|credential|signature|(?<![a-z])sig(?![a-z])|basic[_-]?auth|requirepass",
    re.IGNORECASE,
)
# A name and what stands between it and its value, also in what `repr` makes of dicts, headers and bytes.
ASSIGNMENT = re.compile(
    r"""(?<![\w.-])(?P<name>[\w.-]++)(?:\\*+["'])?+(?:\s{0,4}+[:=]|(?<=["'])\s{0,4}+,)\s{0,4}+(?:[bru](?=["']))?+"""
)
# A quote behind a backslash ends nothing: what was escaped twice is read too far rather than not far enough.
VALUE = re.compile(r"""(?P<quote>["'])(?:\\++.|(?!(?P=quote)).)*+(?P=quote)?+|\\+["'].*+|\S*+""", re.DOTALL)
HEADER = re.compile(r"authorization|cookie", re.IGNORECASE)  # a name whose value has spaces
REST_OF_LINE = re.compile(r"""[^\s"'\\][^\r\n]*+""")
SCHEME = re.compile(r"\b(bearer|basic)(\s+)[\w~+/=.:-]{6,}", re.IGNORECASE)

USERINFO = re.compile(r"(\bhttps?://)[^\s/?#]{0,2000}@", re.IGNORECASE)
# A password in a DSN may hold anything, even what an address must not.
DSN_USERINFO = re.compile(r"(\b(?!https?:)[a-z][a-z0-9+.-]{1,30}+://)\S{0,2000}@", re.IGNORECASE)
QUERY = re.compile(r"(?<=[^\s?])\?[^\s\"'<>]++")
FRAGMENT = re.compile(r"(?<=\S)#[^\s\"'<>]++")

# Our keys keep their public part, which finds them in the table.
API_KEY = re.compile(r"(sk_[A-Za-z0-9]{8})[A-Za-z0-9]{12,}+")
SHAPES = re.compile(
    r"wh(?:sec|sk)_[\w+/=-]+"  # webhook secrets
    r"|eyJ[\w-]++(?:\.[\w-]*+)*"  # tokens (JWT)
    r"|(?:sk-|hf_)[\w-]{16,}"  # other services' keys
    r"|\$argon2\w+\$\S+"
    r"|-----BEGIN[\w ]*PRIVATE KEY-----.*?(?:-----END|\Z)",
    re.DOTALL,
)


_own_secrets: set[str] = set()


def never_say(secret: str) -> None:
    """Take this text out of every line from now on, wherever it stands; short ones are only found by their names."""
    if len(secret) >= SHORTEST:
        _own_secrets.add(secret)


def redact(value: Any, depth: int = 0) -> Any:
    """The value as it may be logged: texts without secrets, and nothing that goes by a secret's name."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes | bytearray):
        return redact_text(bytes(value).decode("utf-8", "backslashreplace"))
    if depth >= DEEPEST:
        return GONE
    if isinstance(value, Mapping):
        return {redact_text(str(name)): _field(str(name), entry, depth) for name, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return _sequence(list(value), depth)
    return redact_text(repr(value))


def redact_text(text: str) -> str:
    """The same for a text, such as a message or a traceback; one that is very long loses its end."""
    for secret in _own_secrets:
        text = text.replace(secret, GONE)
    text = _shortened(text)
    text = SHAPES.sub(GONE, text)
    text = API_KEY.sub(rf"\1{GONE}", text)
    if "://" in text:
        text = DSN_USERINFO.sub(rf"\1{GONE}@", text)
        text = USERINFO.sub(rf"\1{GONE}@", text)
        text = FRAGMENT.sub(f"#{GONE}", text)
    text = SCHEME.sub(rf"\1\2{GONE}", text)
    return QUERY.sub(f"?{GONE}", _without_assigned(text))


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Whether what goes by this name is not for logs."""
    return SECRET_NAME.search(name) is not None


def _shortened(text: str) -> str:
    """Cut between words: half a secret could no longer be told from other text."""
    if len(text) <= LONGEST:
        return text
    kept, _, _ = text[:LONGEST].rpartition(" ")
    return f"{kept} […]"


def _without_assigned(text: str) -> str:
    parts, end = [], 0
    for found in ASSIGNMENT.finditer(text):
        if found.start() < end or not is_secret_name(found["name"]):
            continue
        value = VALUE.match(text, found.end())
        if HEADER.search(found["name"]) and (rest := REST_OF_LINE.match(text, found.end())):
            value = rest
        assert value is not None  # it matches nothing at the least
        if value.end() > found.end():
            parts += [text[end : found.end()], GONE]
            end = value.end()
    return "".join(parts) + text[end:]


def _field(name: str, value: Any, depth: int) -> Any:
    if value is not None and is_secret_name(name):
        return GONE
    return redact(value, depth + 1)


def _sequence(entries: list[Any], depth: int) -> list[Any]:
    """A pair that begins with a secret's name is a header."""
    if len(entries) == 2 and isinstance(entries[0], str | bytes) and is_secret_name(str(entries[0])):
        return [redact(entries[0], depth + 1), GONE]
    return [redact(entry, depth + 1) for entry in entries]
