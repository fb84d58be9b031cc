"""Hostile bodies are refused with a sentence, good ones read as anybody would read them."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.json_reader import read_json
from shared.errors import ValidationFailed

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20).map(
    lambda text: unicodedata.normalize("NFC", text)
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_good_documents_are_read_as_they_are(value: object, ascii_only: bool) -> None:
    assert read_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


HOSTILE = {
    "empty": b"",
    "truncated": b'{"a": 1',
    "trailing": b"{} x",
    "nan": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "overflowing float": b'{"a": 1e999}',
    "huge integer": b'{"a": 1' + b"0" * 30 + b"}",
    "100,000 digits": b"[" + b"9" * 100_000 + b"]",
    "just beyond 64 bits": b"[9223372036854775808]",
    "duplicate key": b'{"a": 1, "a": 2}',
    "duplicate key inside": b'[{"x": {"a": 1, "a": 1}}]',
    "deep": b"[" * 900 + b"]" * 900,
    "a million brackets": b"[" * 1_000_000,
    "many keys": json.dumps({str(n): n for n in range(1001)}).encode(),
    "byte order mark": b"\xef\xbb\xbf{}",
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "latin-1": b'{"a": "\xe9"}',
    "lone surrogate": b'{"a": "\\ud800"}',
    "lone surrogate in a key": b'{"\\udfff": 1}',
    "nul": b'{"a": "x\\u0000y"}',
    "raw control character": b'{"a": "\n"}',
}


@pytest.mark.hostile("J")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents_are_refused_without_an_echo(name: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        read_json(HOSTILE[name])
    assert len(caught.value.message) < 120
    caught.value.message.encode("ascii")


def test_the_field_of_bad_text_is_named() -> None:
    with pytest.raises(ValidationFailed) as caught:
        read_json(b'{"items": [{"prompt": "\\u0000"}]}')
    assert caught.value.details["field"] == "items.0.prompt"


def test_brackets_inside_strings_do_not_count_as_depth() -> None:
    assert read_json(json.dumps({"a": "[" * 100 + '\\"' + "{" * 100}).encode())["a"].startswith("[[")


def test_an_integral_float_is_an_integer_as_json_schema_says() -> None:
    assert isinstance(read_json(b"[5.0]")[0], int)
    assert isinstance(read_json(b"[5.5]")[0], float)
