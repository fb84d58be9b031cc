"""Uploads: begun, grown part by part, complete once their hash is known, used by jobs as often as their owner likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from services.gateway.content_type import content_type_of
from services.gateway.jobs.file_texts import UPLOAD
from services.gateway.jobs.forms import FORM
from services.gateway.jobs.stored import StoredFile
from services.gateway.uploads.one_file import FORM_ROOM, pass_file
from services.gateway.uploads.receiver import Receiver, unknown_upload, upload_too_large, wrong_offset
from services.gateway.uploads.tus import Checksum, number
from shared.errors import Unavailable, ValidationFailed
from shared.ids import parse_id
from shared.logging import get_logger
from shared.signatures import HEAD, SIGNATURES, media_type_of
from shared.storage.interface import Storage, StorageError
from shared.storage.pieces import head_of_pieces, sha256_of_pieces
from shared.uploads.keys import upload_prefix
from shared.uploads.queries import UploadQueries, UploadView

log = get_logger(__name__)
ANYTHING = "application/octet-stream"


class Uploads:
    """What the routes do; all state is in Postgres and in the storage, so any gateway can go on with any upload."""

    def __init__(self, table: UploadQueries, storage: Storage, max_bytes: int) -> None:
        self.table, self.max_bytes = table, max_bytes
        self._storage = storage

    async def begin(self, owner: str, length: int | None, name: str | None, metadata: str | None) -> UploadView:
        """A new upload; `length` None is to be said later. Raises PayloadTooLarge and RateLimited."""
        if (length or 0) > self.max_bytes:
            raise upload_too_large(self.max_bytes)
        reserved = self.max_bytes if length is None else length
        return await self._completed(await self.table.create(owner, length, reserved, name, metadata), owner)

    async def get(self, upload_id: UUID, owner: str) -> UploadView:
        """The upload; NotFound. If a gateway died before it could complete it, that is done now."""
        upload = await self.table.get(upload_id, owner)
        if upload is None:
            raise unknown_upload()
        return await self._completed(upload, owner)

    async def append(
        self, upload: UploadView, owner: str, stream: AsyncIterator[bytes], checksum: Checksum | None
    ) -> UploadView:
        """The upload with the bytes of one more request."""
        receiver = Receiver(self.table, self._storage, upload, owner, checksum)
        return await self._completed(await receiver.take(stream), owner, receiver)

    async def at_offset(self, upload: UploadView, owner: str, request: Request) -> UploadView:
        """The upload if this PATCH fits where it is, of the length that it says; Conflict, PayloadTooLarge, …"""
        offset, length = number(request, "Upload-Offset"), number(request, "Upload-Length")
        if offset is None:
            raise ValidationFailed("Upload-Offset is expected: where these bytes begin.", field="Upload-Offset")
        if offset != upload.received:
            raise wrong_offset(upload)
        if length is not None and length != upload.length:
            upload = await self._with_length(upload, owner, length)
        announced = number(request, "Content-Length") or 0
        if offset + announced > upload.reserved:
            raise upload_too_large(upload.reserved)
        return upload

    async def take_whole(self, owner: str, request: Request, name: str | None, checksum: Checksum | None) -> UploadView:
        """A file that comes in one request, as a form or as the body itself; if it does not come, nothing is left."""
        form = content_type_of(request) == FORM
        announced = number(request, "Content-Length")
        if announced is not None and announced > self.max_bytes + (FORM_ROOM if form else 0):
            raise upload_too_large(self.max_bytes)
        reserved = self.max_bytes if announced is None else min(announced, self.max_bytes)
        upload = await self.table.create(owner, None, reserved, name, None)
        receiver = Receiver(self.table, self._storage, upload, owner, checksum)
        try:
            if form:
                name = await pass_file(request, receiver.write)
            else:
                async for chunk in request.stream():
                    await receiver.write(chunk)
            await receiver.close()
            if receiver.upload.received == 0:
                raise ValidationFailed("The file is empty.", field="file" if form else "body")
            return await self._complete(receiver.upload, owner, receiver.sha256, name)
        except BaseException:
            await asyncio.shield(self._forget(receiver, owner))
            raise

    async def use(self, reference: str, owner: str) -> StoredFile | None:
        """The file that `upload:<id>` means, for a job; None if the owner has no such complete upload."""
        upload_id = parse_id(reference.removeprefix(UPLOAD))
        found = await self.table.get(upload_id, owner) if upload_id else None
        if found is None or not (await self._completed(found, owner)).complete:
            return None
        upload = await self.table.use(found.id, owner)
        if upload is None or upload.sha256 is None:
            return None
        return StoredFile(upload.name, upload.received, upload.sha256, tuple(await self.table.pieces(upload, owner)))

    async def _with_length(self, upload: UploadView, owner: str, length: int) -> UploadView:
        if length > self.max_bytes:
            raise upload_too_large(self.max_bytes)
        told = await self.table.set_length(upload.id, owner, length)
        if told is None:
            raise ValidationFailed("Upload-Length was said before, or is less than what came.", field="Upload-Length")
        return told

    async def _completed(self, upload: UploadView, owner: str, receiver: Receiver | None = None) -> UploadView:
        """The same, complete if nothing is missing."""
        if upload.complete or not upload.all_received:
            return upload
        return await self._complete(upload, owner, receiver.sha256 if receiver else None, None)

    async def _complete(self, upload: UploadView, owner: str, sha256: str | None, name: str | None) -> UploadView:
        """Note what the bytes are, and share those of an equal upload. Harmless if somebody else does so meanwhile."""
        try:
            pieces = await self.table.pieces(upload, owner)
            head = await self._in_storage(head_of_pieces, pieces, HEAD)
            sha256 = sha256 or await self._in_storage(sha256_of_pieces, pieces)
            media_type = media_type_of(head, SIGNATURES) or ANYTHING
            done, spare = await self.table.complete(upload, owner, sha256, media_type, name)
            if spare:
                await self._in_storage(lambda storage: storage.delete(spare))
        except StorageError as error:
            done = await self.table.get(upload.id, owner)
            if done is None or not done.complete:
                raise Unavailable("The storage cannot be read now.", headers={"Retry-After": "5"}) from error
        done = done or await self.table.get(upload.id, owner)
        if done is None:
            raise unknown_upload()
        return done

    async def _in_storage(self, work: Callable[..., Any], *values: Any) -> Any:
        return await run_in_threadpool(work, self._storage, *values)

    async def _forget(self, receiver: Receiver, owner: str) -> None:
        """Nobody could read any of it yet, so that the files need not wait for the janitor as others do."""
        await receiver.discard()
        await self.table.delete(receiver.upload.id, owner)
        with suppress(StorageError):  # the janitor's, then
            await self._in_storage(_remove_all, upload_prefix(owner, receiver.upload.id))


def _remove_all(storage: Storage, prefix: str) -> None:
    storage.delete(list(storage.list(prefix)))
