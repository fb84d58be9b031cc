"""Reads multipart forms (typed files and one JSON field) within limits; files are stored before a job is accepted."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
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
from shared.jobs.submissions import Receipt
from shared.storage.interface import CHUNK, Storage, StorageError

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

    @asynccontextmanager
    async def stored(self, storage: Storage, owner: str, job_id: UUID) -> AsyncIterator[Callable[[Receipt], None]]:
        """The files lie in storage while the job is submitted, and stay there only if it was accepted as a new one."""
        keys, taken = [input_key(owner, job_id, field) for field in self.uploads], []
        try:
            for key, (field, upload) in zip(keys, self.uploads.items(), strict=True):
                await run_in_threadpool(_store, storage, key, upload, self.body[field]["media_type"])
            yield lambda receipt: taken.append(not receipt.replayed)
        except StorageError as error:
            raise Unavailable("The storage does not take files now.", headers={"Retry-After": "5"}) from error
        finally:
            if taken != [True]:
                await run_in_threadpool(storage.delete, keys)


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
    parser = MultiPartParser(
        request.headers,
        _limited(request, limit),
        max_files=len(multipart.files),
        max_fields=4,
        max_part_size=MAX_TEXT,
    )
    try:
        data = await parser.parse()
    except MultiPartException as error:
        raise ValidationFailed(f"The form cannot be read: {error.message}", field="body") from None
    except KeyError:
        raise ValidationFailed("The form has no boundary.", field="body") from None
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
    body = read_json(text.encode())
    if not isinstance(body, dict):
        raise ValidationFailed(f"Invalid {config}: A JSON object is expected.", field=config)
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
