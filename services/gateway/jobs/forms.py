"""Reads multipart forms within limits: files, texts in a file's place, one text field with the rest as JSON, and, where
an operation wants it so, that rest as texts of their own."""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from services.gateway.jobs.form_fields import read_text_fields, text_fields
from services.gateway.json_reader import read_json
from shared.errors import PayloadTooLarge, Unavailable, ValidationFailed
from shared.family import MAX_REQUEST_BYTES, Operation
from shared.logging import get_logger

FORM = "multipart/form-data"
MAX_TEXT = 1_000_000  # bytes of the JSON field
FULL = {errno.ENOSPC, errno.EDQUOT}

log = get_logger(__name__)


def text_size(size: int) -> int:
    """The most bytes of text that a file of this size may come as: base64 with line breaks, each escaped in JSON."""
    return size * 3 // 2 + 1000


class WholeForm(MultiPartParser):
    """Starlette's parser, but a form without its last boundary is none."""

    _ended = False

    async def parse(self) -> FormData:
        self.stream = self._whole(self.stream)
        return await super().parse()

    async def _whole(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in stream:
            yield chunk
        if not self._ended:  # raised here, it makes Starlette close the files
            raise MultiPartException("Its end is missing.")

    def on_end(self) -> None:
        self._ended = True


class _Parser(WholeForm):
    """Text is UTF-8 whatever the header says, and a part too large for its field is refused while it is read."""

    def __init__(self, request: Request, stream: AsyncGenerator[bytes, None], operation: Operation) -> None:
        self._files, self._seen = operation.files, 0
        super().__init__(
            request.headers,
            stream,
            max_files=len(self._files) + 1,  # one too many is read, so that it can be named
            max_fields=len(self._files) + len(text_fields(operation)) + 3,
            max_part_size=MAX_TEXT,
        )

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        self._seen, self.max_part_size = 0, MAX_TEXT
        rule = self._files.get(self._current_part.field_name)
        if rule and self._current_part.file is None:
            self.max_part_size = text_size(rule.max_bytes)

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        field = self._current_part.field_name
        if rule := self._files.get(field):
            self._seen += end - start
            if self._seen > (self.max_part_size if self._current_part.file is None else rule.max_bytes):
                raise file_too_large(field, rule.max_bytes)
        super().on_part_data(data, start, end)

    def on_part_end(self) -> None:
        if self._current_part.file is None:
            self.items.append((self._current_part.field_name, self._current_part.data.decode()))
        else:
            super().on_part_end()


@asynccontextmanager
async def read_form(request: Request, operation: Operation) -> AsyncIterator[dict[str, Any]]:
    """The input as an object, with an UploadFile or a text in each file's field; the uploads are closed afterwards.

    Raises ValidationFailed that names the field, PayloadTooLarge before more than the limits is held, and Unavailable
    if this machine has no room for the files.
    """
    room = sum(text_size(rule.max_bytes) for rule in operation.files.values()) + MAX_TEXT
    limit = min(room, MAX_REQUEST_BYTES)
    parser = _Parser(request, _limited(request, limit), operation)
    try:
        data = await parser.parse()
    except MultiPartException as error:
        raise ValidationFailed(f"The form cannot be read: {error.message}", field="body") from None
    except UnicodeError:
        raise ValidationFailed("The form cannot be read: Its text is not UTF-8.", field="body") from None
    except OSError as error:
        if error.errno not in FULL:
            raise
        log.error("no room for the files of a form", error=str(error))
        raise Unavailable("There is no room for the files now.", headers={"Retry-After": "5"}) from error
    try:
        yield _read(data, operation)
    finally:
        await data.close()


def file_too_large(field: str, limit: int) -> PayloadTooLarge:
    """A file is too large, however it came."""
    return PayloadTooLarge(f"{field} is larger than {limit} bytes.", details={"field": field, "limit": limit})


async def _limited(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    seen, announced = 0, request.headers.get("content-length", "")
    if limit == MAX_REQUEST_BYTES and announced.isdecimal() and int(announced) > limit:
        raise _form_too_large(limit)
    async for chunk in request.stream():
        seen += len(chunk)
        if seen > limit:
            raise _form_too_large(limit)
        yield chunk


def _form_too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The form is larger than {limit} bytes.", details={"limit": limit})


def _read(data: FormData, operation: Operation) -> dict[str, Any]:
    for name in data:
        if name not in {*operation.files, operation.config, *text_fields(operation)}:
            raise ValidationFailed(f"Invalid {name[:100]}: Unknown field.", field=name[:100])
        if len(data.getlist(name)) > 1:
            raise ValidationFailed(f"Invalid {name}: it is given twice.", field=name)
    text = data.get(config := operation.config, "{}")
    if isinstance(text, UploadFile):
        raise ValidationFailed(f"Invalid {config}: JSON text is expected, not a file.", field=config)
    body = _config(text, config)
    for field in operation.files:
        if field in body:
            raise ValidationFailed(f"Invalid {field}: it is a part of the form, not of {config}.", field=field)
        if field in data:
            body[field] = data[field]
    read_text_fields(data, operation, body)
    return body


def _config(text: str, name: str) -> dict[str, Any]:
    try:
        body = read_json(text.encode())
    except ValidationFailed as error:
        place, message = error.details.get("field", "body"), error.message.replace("The body", "It", 1)
        raise ValidationFailed(f"Invalid {name}: {message}", field=name if place == "body" else place) from None
    if not isinstance(body, dict):
        raise ValidationFailed(f"Invalid {name}: A JSON object is expected.", field=name)
    return body
