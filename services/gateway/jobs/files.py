"""The files of one request: described when it is read, stored before its job is accepted, gone if there is no job."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from io import SEEK_END, BufferedIOBase, BytesIO
from typing import Any, cast
from uuid import UUID

from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from services.gateway.jobs.file_texts import STORED, not_found, public_name, read_text
from services.gateway.jobs.forms import file_too_large
from services.gateway.jobs.stored import StoredFile, StoredFiles
from shared.errors import Unavailable, ValidationFailed
from shared.family import FileField, FileInput, Operation
from shared.jobs.artifacts import input_key
from shared.logging import get_logger
from shared.signatures import HEAD, media_type_of
from shared.storage.interface import CHUNK, Storage, StorageError

log = get_logger(__name__)


@dataclass(slots=True)
class RequestFiles:
    """By field: what is known of each file, the bytes of those that came along, those to be copied."""

    known: dict[str, FileInput] = field(default_factory=dict)
    contents: dict[str, BufferedIOBase] = field(default_factory=dict)
    copies: dict[str, StoredFile] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes that the files will take of the storage, without those that a worker is to fetch."""
        return sum(self.known[name].size or 0 for name in (*self.contents, *self.copies))

    async def find_stored(self, operation: Operation, stored: StoredFiles, owner: str) -> None:
        """Look up the files that lie in storage; ValidationFailed or PayloadTooLarge names the field."""
        for name, known in self.known.items():
            if known.source and known.source.startswith(STORED):
                found, rule = await stored.find(known.source, owner), operation.files[name]
                if found is None:
                    raise not_found(name, known.source)
                if found.size > rule.max_bytes:
                    raise file_too_large(name, rule.max_bytes)
                head = await run_in_threadpool(found.head, stored.storage)
                facts = {"media_type": _media_type(name, head, rule), "size": found.size, "sha256": found.sha256}
                self.known[name] = known.model_copy(update=facts | ({"name": found.name} if found.name else {}))
                self.copies[name] = found

    def completed(self, request: BaseModel) -> BaseModel:
        """The request with all that is known of its files."""
        return request.model_copy(update=self.known) if self.copies else request

    async def store(self, storage: Storage, owner: str, job_id: UUID) -> None:
        """Put the files where the job looks for them, all or none; raises Unavailable."""
        stored = False
        try:
            for name in (*self.contents, *self.copies):
                await run_in_threadpool(self._put, storage, input_key(owner, job_id, name), name)
            stored = True
        except StorageError as error:
            raise Unavailable("The storage does not take files now.", headers={"Retry-After": "5"}) from error
        finally:
            if not stored:
                await self.remove(storage, owner, job_id)

    async def remove(self, storage: Storage, owner: str, job_id: UUID) -> None:
        """Take the stored files away again: no job was made of them."""
        try:
            keys = [input_key(owner, job_id, name) for name in (*self.contents, *self.copies)]
            await run_in_threadpool(storage.delete, keys)
        except StorageError as error:
            log.warning("files of a request that was refused stay", job=str(job_id), error=str(error))

    def _put(self, storage: Storage, key: str, name: str) -> None:
        known = self.known[name]
        assert known.media_type is not None
        stored = storage.put(key, self._chunks(storage, name), known.media_type)
        if stored.sha256 != known.sha256:  # a copy that is not what was said of it
            raise StorageError(f"{key} was not read as it was described")
        if content := self.contents.get(name):
            content.close()  # a client that waits holds no file here

    def _chunks(self, storage: Storage, name: str) -> Iterable[bytes]:
        if name in self.copies:
            return self.copies[name].read(storage)
        content = self.contents[name]
        content.seek(0)
        return iter(lambda: content.read(CHUNK), b"")


def receive(operation: Operation, body: Any, ports: Collection[int]) -> RequestFiles:
    """The files in this body, each of which is replaced there by what is known of it.

    That is also what makes two requests the same: the content of a file that came along, or the text that names it.
    """
    files = RequestFiles()
    for name, rule in operation.files.items():
        given = body.get(name)
        if given is None:
            body.pop(name, None)  # whether it may be left out, the input's schema knows
            continue
        files.known[name] = _received(files, name, given, rule, ports)
        body[name] = files.known[name].model_dump(exclude_none=True)
    return files


def _received(files: RequestFiles, name: str, given: object, rule: FileField, ports: Collection[int]) -> FileInput:
    if isinstance(given, UploadFile):
        files.contents[name] = cast(BufferedIOBase, given.file)
        return _described(name, public_name(given.filename or "", name), files.contents[name], rule)
    if not isinstance(given, str):
        raise ValidationFailed(f"Invalid {name}: A file is expected, in JSON as text.", field=name)
    read = read_text(name, given, rule, ports)
    if isinstance(read, FileInput):
        return read
    files.contents[name] = BytesIO(read)
    return _described(name, name, files.contents[name], rule)


def _described(field: str, name: str, content: BufferedIOBase, rule: FileField) -> FileInput:
    """The media type is what the bytes are, not what the client says."""
    size = content.seek(0, SEEK_END)
    if size > rule.max_bytes:
        raise file_too_large(field, rule.max_bytes)
    content.seek(0)
    media_type = _media_type(field, content.read(HEAD), rule)
    content.seek(0)
    digest = hashlib.file_digest(content, "sha256")
    return FileInput(name=name, media_type=media_type, size=size, sha256=digest.hexdigest())


def _media_type(field: str, head: bytes, rule: FileField) -> str:
    found = media_type_of(head, rule.media_types)
    if found is None:
        raise ValidationFailed(
            f"{rule.unsupported or f'Invalid {field}'}: the file is none of {', '.join(rule.media_types)}.",
            field=field,
            details={"supported_formats": list(rule.media_types)},
        )
    return found
