"""How long a client wants to wait, by RFC 7240."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from services.gateway.jobs.preferences import wanted_wait

LONGEST = 600


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        ([], 0),
        (["wait=20"], 20),
        (["WAIT = 20"], 20),
        (['wait="20"'], 20),
        (["wait=9999"], LONGEST),
        (["respond-async, wait=20"], 20),
        (["respond-async", "wait=20"], 20),
        (["handling=strict; because, wait=20; really"], 20),
        (["await=20"], 0),
        (['note="wait=20"'], 0),
        (["wait=-1"], 0),
        (["wait=soon"], 0),
    ],
)
def test_what_is_preferred(lines: list[str], seconds: int) -> None:
    headers = [(b"prefer", line.encode()) for line in lines]
    assert wanted_wait(Request({"type": "http", "query_string": b"", "headers": headers}), LONGEST) == seconds


@pytest.mark.parametrize(
    ("line", "seconds"), [("respond-async", 0), ("respond-asynchronously", LONGEST), ("", LONGEST)]
)
def test_under_sync(line: str, seconds: int) -> None:
    scope = {"type": "http", "query_string": b"", "headers": [(b"prefer", line.encode())], "waits_by_default": True}
    assert wanted_wait(Request(scope), LONGEST) == seconds
