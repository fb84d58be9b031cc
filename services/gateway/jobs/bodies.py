"""What a POST carries: JSON, or a form where the address takes one, each within its limits."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from services.gateway.auth.access import authentication_required
from services.gateway.content_type import content_type_of
from services.gateway.jobs.forms import FORM, read_form, text_size
from services.gateway.json_reader import read_body, read_json, too_large
from shared.errors import UnsupportedMediaType
from shared.family import MAX_REQUEST_BYTES, Family, Operation

Choice = tuple[Family, Operation]
JSON = "application/json"
# What only a file can be: letters of base64, with slashes and line breaks escaped.
FILE_TEXT = re.compile(rb"[A-Za-z0-9+/=\\]{1000,}")


@asynccontextmanager
async def read_input(
    request: Request, choices: Sequence[Choice], limit: int, *, known: bool
) -> AsyncIterator[tuple[Any, list[Choice]]]:
    """The body, and which of the operations at this address take bodies of its kind.

    `limit` is for JSON without its files (bytes). Of somebody who is not `known` no form and no file is read, only a
    short object that may tell who asks. Raises UnsupportedMediaType, ValidationFailed, PayloadTooLarge, Unauthorized.
    """
    media_type = content_type_of(request, JSON)
    forms = [choice for choice in choices if choice[1].files]
    if not known:
        if media_type != JSON:
            raise authentication_required()
        yield read_json(await read_body(request, limit)), list(choices)
    elif forms and media_type == FORM:
        async with read_form(request, forms[0][1]) as body:
            yield body, forms
    elif media_type == JSON or media_type.endswith("+json"):
        yield await _read_json(request, forms, limit), list(choices)
    else:
        taken = [JSON, FORM] if forms else [JSON]
        raise UnsupportedMediaType(f"This address takes {' or '.join(taken)}.", headers={"Accept": ", ".join(taken)})


def check_size(choices: Sequence[Choice], operation: Operation, body: Any, limit: int) -> None:
    """Raise PayloadTooLarge if the body without the operation's files is larger than an ordinary one may be."""
    if not any(choice[1].files for choice in choices):
        return  # nothing longer was read
    rest = {k: v for k, v in body.items() if k not in operation.files} if isinstance(body, dict) else body
    if len(json.dumps(rest, ensure_ascii=False).encode()) > limit:
        raise too_large(limit)


async def _read_json(request: Request, forms: Sequence[Choice], limit: int) -> Any:
    rules = [operation.files.values() for _, operation in forms]
    room = max((sum(text_size(rule.max_bytes) for rule in files) for files in rules), default=0)
    body = await read_body(request, min(limit + room, MAX_REQUEST_BYTES))
    if len(body) <= limit:
        return read_json(body)
    return await run_in_threadpool(_read_long, body, limit)


def _read_long(body: bytes, limit: int) -> Any:
    """Only files may make it so long: parsing 20 MB of small things would take seconds and a hundred times the room."""
    if len(FILE_TEXT.sub(b"", body)) > limit:
        raise too_large(limit)
    return read_json(body)
