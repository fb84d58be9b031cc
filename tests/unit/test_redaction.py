"""No secret survives in a log line, wherever it stands and whatever stands around it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.redaction import GONE, LONGEST, never_say, redact, redact_text

MARK = "Zq9vXk3wPz7m"
KEY = "sk_abcdefgh" + MARK + "0123456789abcdefghijklmnopqrstu"
JWT = f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{MARK}-_x"
NAMES = (
    "password",
    "new_password",
    "ATELIER_SECRET_KEY",
    "X-API-Key",
    "access_token",
    "api_key",
    "PGPASSWORD",
    "cookie",
)
printable = st.characters(exclude_categories=["Cs"])
password = st.tuples(st.text(printable, max_size=8), st.text(printable, max_size=8)).map(MARK.join)
word = password.filter(lambda text: len(text.split()) == 1 and text.strip() == text and text[0] not in "\"'\\")
safe = st.text("abcXYZ019-._~!$&()*+,;=:%", max_size=8).map(lambda text: MARK + text)
name = st.sampled_from(NAMES)

# How secrets are found in messages and tracebacks.
forms = st.one_of(
    st.tuples(name, word).map(lambda found: f"{found[0]}={found[1]}"),
    st.tuples(name, word).map(lambda found: f"{found[0]}: {found[1]}"),
    st.tuples(name, password).map(lambda found: repr({found[0]: found[1]})),
    st.tuples(name, password).map(lambda found: json.dumps({found[0]: found[1]})),
    st.tuples(name, password).map(lambda found: json.dumps({"said": json.dumps({found[0]: found[1]})})),
    st.tuples(name, password).map(lambda found: repr([(found[0].encode(), found[1].encode())])),
    safe.map(lambda found: f"Authorization: Bearer {found}"),
    safe.map(lambda found: f"authorization: Basic {found}"),
    safe.map(lambda found: repr({"headers": [(b"authorization", b"Bearer " + found.encode())]})),
    safe.map(lambda found: f"https://user:{found}@example.com/picture.png"),
    safe.map(lambda found: f"postgresql://atelier:{found}/@#?x@db.internal:5432/atelier"),
    safe.map(lambda found: f"redis://:{found}@cache.internal:6379/0"),
    safe.map(lambda found: f"https://files.example.com/a.png?X-Amz-Signature={found}"),
    safe.map(lambda found: f"https://files.example.com/a.png?{found}"),
    safe.map(lambda found: f"https://files.example.com/a.png#{found}"),
    safe.map(lambda found: f'"GET /status/1/events?ticket={found} HTTP/1.1" 200'),
    safe.map(lambda found: f"host=db user=atelier password={found} dbname=x"),
    st.sampled_from([KEY, JWT, f"whsec_{MARK}+/=", f"whsk_{MARK}", f"hf_{MARK}{MARK}", f"$argon2id$v=19$m=1${MARK}"]),
    st.just(f"-----BEGIN EC PRIVATE KEY-----\n{MARK}\n-----END EC PRIVATE KEY-----"),
)
around = st.text(max_size=20)
between = st.sampled_from([" ", "\n", "\t", "'", '"', "(", "[", ", "])


@settings(deadline=None)
@given(around, between, forms, between, around)
@example("a: ", '"', "password=" + MARK, '"', "b")
def test_no_text_keeps_a_secret(before: str, opening: str, form: str, closing: str, after: str) -> None:
    assert MARK not in redact_text(before + opening + form + closing + after)


@settings(deadline=None)
@given(around, forms, st.recursive(name, lambda inner: st.lists(inner, max_size=2), max_leaves=4), password)
def test_no_field_keeps_a_secret(key: str, form: str, nested: Any, secret: str) -> None:
    found = redact(
        {
            key: [form, {"deep": (form, {form: 1})}, form.encode("utf-8", "surrogatepass")],
            "password": secret,
            "details": {"new_password": {"value": [secret]}, "headers": [("cookie", secret), (b"X-API-Key", secret)]},
            "error": ValueError(form),
            "nested": nested,
        }
    )
    assert MARK not in json.dumps(found)


@pytest.mark.parametrize(
    "text",
    [
        "job claimed",
        "Task atelier.run_job[0199a7f0-0000-7000-8000-00000000000a.1] received",
        "https://files.example.com/pictures/a.png answered with status 404 at 12:30:01",
        "results/anonymous/0199a7f0-0000-7000-8000-00000000000a/1/0.png was not read back as it was written",
        'password authentication failed for user "atelier"',
        "Did the model load? No: 3 of 4 files.",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact_text(text) == text
    assert redact({"job": text, "seconds": 1.5, "ok": True, "none": None}) == {
        "job": text,
        "seconds": 1.5,
        "ok": True,
        "none": None,
    }


def test_an_own_secret_is_gone_whatever_it_looks_like() -> None:
    never_say("just-some-words-of-mine")
    assert "just-some" not in redact_text("asked with just-some-words-of-mine, refused")


def test_what_finds_the_key_and_the_host_stays() -> None:
    assert redact_text(KEY) == f"sk_abcdefgh{GONE}"
    assert redact_text("postgresql://u:p@db.internal:5432/x") == f"postgresql://{GONE}@db.internal:5432/x"
    assert redact_text("https://a.example.com/b.png?sig=1") == f"https://a.example.com/b.png?{GONE}"


def test_a_very_long_text_is_cut_between_words() -> None:
    text = redact_text("x " * (LONGEST // 2 - 4) + KEY * 2)
    assert len(text) < LONGEST + 10
    assert MARK not in text
    assert "Zq9v" not in redact_text("x" * (LONGEST - 14) + " " + KEY)


def test_something_that_holds_itself_ends() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert redact(endless)
