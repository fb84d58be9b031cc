"""What routes answer: JSON, and the documented error responses, all with the one body."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

from starlette.responses import Response

from services.gateway.errors import MEDIA_TYPE

DESCRIPTIONS = {
    400: "The request is not what this address accepts; `details.field` names the place.",
    401: "No valid credential.",
    403: "The credential does not allow this.",
    404: "Unknown id.",
    405: "The address does not take this method.",
    406: "None of the accepted media types can be made.",
    409: "The present state does not allow this.",
    410: "The result has passed its time.",
    412: "The client speaks another version of the protocol.",
    413: "The body is too large.",
    415: "The body's media type is not taken here.",
    416: "No byte of the requested range exists.",
    422: "The Idempotency-Key was used with a different request.",
    429: "Too many, too fast; Retry-After says when to try again.",
    460: "The body does not match the checksum that came with it.",
    500: "An unexpected error.",
    503: "Not possible at the moment (no model, queue full, database away); Retry-After says when to try again.",
    504: "The job was not done within the time that its request allowed.",
}
PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for these statuses."""
    return {status: _problem(status) for status in sorted({*statuses, 503})}


def _problem(status: int) -> dict[str, Any]:
    headers = {"headers": RETRY_AFTER} if status in (429, 503) else {}
    return {"description": DESCRIPTIONS[status], "content": PROBLEM, **headers}


def json_answer(body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The body as JSON: times as ISO 8601, ids and whatever else as text."""
    return Response(json.dumps(body, default=_as_text), status, headers=headers, media_type="application/json")


def _as_text(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)
