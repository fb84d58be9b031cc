"""How long a client wants to wait (RFC 7240 `Prefer`, `?wait=`, the /sync base path), and the other submit headers."""

from __future__ import annotations

import re

from starlette.requests import Request

from shared.errors import ValidationFailed

WAIT = re.compile(r'wait\s*=\s*(?:(\d{1,6})|"(\d{1,6})")')
KEY = re.compile(r"[\x21-\x7e]{1,255}")


def wanted_wait(request: Request, longest: int) -> int:
    """Seconds to wait for the job's end, at most `longest`; 0 answers at once."""
    if "wait" in request.query_params:
        text = request.query_params["wait"]
        if not (text.isascii() and text.isdecimal()) or len(text) > 6:
            raise ValidationFailed("wait must be a whole number of seconds.", field="wait")
        return min(int(text), longest)
    preferred = _preferences(request)
    if match := next(filter(None, map(WAIT.fullmatch, preferred)), None):
        return min(int(match.group(1) or match.group(2)), longest)
    if "respond-async" in preferred:
        return 0
    return longest if request.scope.get("waits_by_default") else 0


def _preferences(request: Request) -> list[str]:
    """Each one without its parameters; several lines are as good as one with commas."""
    listed = ",".join(request.headers.getlist("prefer")).lower()
    return [one.partition(";")[0].strip() for one in listed.split(",")]


def idempotency_key(request: Request) -> str | None:
    """The Idempotency-Key header, quoted as the draft has it or bare."""
    given = set(request.headers.getlist("idempotency-key"))
    if not given:
        return None
    if len(given) > 1:
        raise ValidationFailed("Idempotency-Key is given twice, and not the same.", field="Idempotency-Key")
    (text,) = given
    key = text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text
    if not KEY.fullmatch(key):
        raise ValidationFailed("Idempotency-Key must be 1 to 255 visible ASCII characters.", field="Idempotency-Key")
    return key


def header_priority(request: Request) -> int | None:
    """The X-Priority header."""
    text = request.headers.get("x-priority")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]", text):
        raise ValidationFailed(
            "Invalid X-Priority. Must be between 0 and 9.", field="X-Priority", details={"valid_range": [0, 9]}
        )
    return int(text)
