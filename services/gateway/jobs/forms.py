"""Reads multipart forms (typed files and one JSON field) within limits; files are stored before a job is accepted."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from services.gateway.json_reader import read_json
from shared.errors import PayloadTooLarge, Unavailable, ValidationFailed
from shared.family import Multipart
from shared.jobs.artifacts import input_key
from shared.logging import get_logger
from shared.storage.interface import CHUNK, Storage, StorageError

log = get_logger(__name__)
FORM = "multipart/form-data"
MAX_TEXT = 1_000_000  # bytes of the JSON field
SIGNATURES = {  # what the first bytes say; a name or a header is only a claim
    "image/png": lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"),
    "image/jpeg": lambda head: head.startswith(b"\xff\xd8\xff"),
    "image/webp": lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP",
}


@dataclass(frozen=True, slots=True)
class Form:
    """A form that was read: `body` is the input as an object, with what describes each file in its field."""

    body: dict[str, Any]
    uploads: dict[str, UploadFile]

    async def store(self, storage: Storage, owner: str, job_id: UUID) -> None:
        """Put the files where the job looks for them, all or none; raises Unavailable."""
        stored = False
        try:
            for field, upload in self.uploads.items():
                key = input_key(owner, job_id, field)
                await run_in_threadpool(_store, storage, key, upload, self.body[field]["media_type"])
                await upload.close()  # a client that waits holds no file here
            stored = True
        except StorageError as error:
            raise Unavailable("The storage does not take files now.", headers={"Retry-After": "5"}) from error
        finally:
            if not stored:
                await self.remove(storage, owner, job_id)

    async def remove(self, storage: Storage, owner: str, job_id: UUID) -> None:
        """Take the stored files away again: no job was made of them."""
        try:
            await run_in_threadpool(storage.delete, [input_key(owner, job_id, field) for field in self.uploads])
        except StorageError as error:
            log.warning("files of a request that was refused stay", job=str(job_id), error=str(error))


class _Parser(MultiPartParser):
    """Starlette's, but text is UTF-8 whatever the header says, and a form without its last boundary is none."""

    _ended = False

    async def parse(self) -> FormData:
        self.stream = self._whole(self.stream)
        return await super().parse()

    async def _whole(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in stream:
            yield chunk
        if not self._ended:  # raised here, it makes Starlette close the files
            raise MultiPartException("Its end is missing.")

    def on_part_end(self) -> None:
        if self._current_part.file is None:
            self.items.append((self._current_part.field_name, self._current_part.data.decode()))
        else:
            super().on_part_end()

    def on_end(self) -> None:
        self._ended = True


@asynccontextmanager
async def read_form(request: Request, multipart: Multipart | None) -> AsyncIterator[Form | None]:
    """The form that the request carries; None if it carries none or the address takes none.

    Raises ValidationFailed that names the field, and PayloadTooLarge before more than the limits is held.
    """
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if multipart is None or media_type != FORM:
        yield None
        return
    limit = multipart.max_bytes * len(multipart.files) + MAX_TEXT
    parser = _Parser(
        request.headers,
        _limited(request, limit),
        max_files=len(multipart.files) + 1,  # one too many is read, so that it can be named
        max_fields=4,
        max_part_size=MAX_TEXT,
    )
    try:
        data = await parser.parse()
    except MultiPartException as error:
        raise ValidationFailed(f"The form cannot be read: {error.message}", field="body") from None
    except UnicodeError:
        raise ValidationFailed("The form cannot be read: Its text is not UTF-8.", field="body") from None
    try:
        yield await run_in_threadpool(_read, data, multipart)
    finally:
        await data.close()


async def _limited(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    seen = 0
    async for chunk in request.stream():
        seen += len(chunk)
        if seen > limit:
            raise PayloadTooLarge(f"The form is larger than {limit} bytes.", details={"limit": limit})
        yield chunk


def _read(data: FormData, multipart: Multipart) -> Form:
    known = {*multipart.files, multipart.config}
    for name in data:
        if name not in known:
            raise ValidationFailed(f"Invalid {name[:100]}: Unknown field.", field=name[:100])
        if len(data.getlist(name)) > 1:
            raise ValidationFailed(f"Invalid {name}: it is given twice.", field=name)
    text = data.get(config := multipart.config, "{}")
    if not isinstance(text, str):
        raise ValidationFailed(f"Invalid {config}: JSON text is expected, not a file.", field=config)
    body = _config(text, config)
    uploads = {}
    for field, types in multipart.files.items():
        if field in body:
            raise ValidationFailed(f"Invalid {field}: it is a part of the form, not of {config}.", field=field)
        upload = data.get(field)
        if not isinstance(upload, UploadFile):
            raise ValidationFailed(f"Invalid {field}: A file is required.", field=field)
        body[field] = _describe(field, upload, types, multipart.max_bytes)
        uploads[field] = upload
    return Form(body, uploads)


def _config(text: str, name: str) -> dict[str, Any]:
    try:
        body = read_json(text.encode())
    except ValidationFailed as error:
        place, message = error.details.get("field", "body"), error.message.replace("The body", "It", 1)
        raise ValidationFailed(f"Invalid {name}: {message}", field=name if place == "body" else place) from None
    if not isinstance(body, dict):
        raise ValidationFailed(f"Invalid {name}: A JSON object is expected.", field=name)
    return body


def _describe(field: str, upload: UploadFile, types: tuple[str, ...], limit: int) -> dict[str, Any]:
    """A FileInput; the media type is what the bytes are, not what the client says."""
    size = upload.size or 0
    if size > limit:
        raise PayloadTooLarge(f"{field} is larger than {limit} bytes.", details={"field": field, "limit": limit})
    digest, head = hashlib.sha256(), b""
    upload.file.seek(0)
    while chunk := upload.file.read(CHUNK):
        head = head or chunk[:16]
        digest.update(chunk)
    found = next((name for name in types if SIGNATURES[name](head)), None)
    if found is None:
        expected = ", ".join(types)
        raise ValidationFailed(f"Invalid {field}: the file is none of {expected}.", field=field)
    name = PurePosixPath((upload.filename or field).replace("\\", "/")).name[:200]
    name = "".join(letter for letter in name if letter.isprintable())
    return {"name": name or field, "media_type": found, "size": size, "sha256": digest.hexdigest()}


def _store(storage: Storage, key: str, upload: UploadFile, media_type: str) -> None:
    upload.file.seek(0)
    storage.put(key, iter(lambda: upload.file.read(CHUNK), b""), media_type)
