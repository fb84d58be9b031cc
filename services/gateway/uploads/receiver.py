"""The bytes of one request on their way into an upload: a part is stored and counted as soon as it is full."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from services.gateway.uploads.tus import Checksum
from shared.errors import ChecksumMismatch, Conflict, NotFound, PayloadTooLarge, Unavailable, ValidationFailed
from shared.logging import get_logger
from shared.storage.interface import Storage, StorageError
from shared.uploads.keys import new_part_key
from shared.uploads.queries import NewPart, UploadQueries, UploadView

log = get_logger(__name__)
PART = 4 * 1024 * 1024  # bytes that one request holds at most, besides what the server has read
MORE_PARTS = 1000  # parts that an upload may have beyond the full ones: as often may a connection break


class Receiver:
    """One request's bytes. With a checksum none of them counts before all have been checked."""

    def __init__(
        self, table: UploadQueries, storage: Storage, upload: UploadView, owner: str, checksum: Checksum | None
    ) -> None:
        self.upload = upload  # as of the last part that counts
        self._table, self._storage, self._owner = table, storage, owner
        self._buffer = bytearray()
        self._end = upload.received
        self._uncounted: list[NewPart] = []
        self._checksum = checksum
        self._digest = hashlib.sha256() if upload.received == 0 else None
        self._parts_left = upload.reserved // PART + MORE_PARTS - upload.parts

    @property
    def sha256(self) -> str | None:
        """Of the whole upload, if this request brought all of it."""
        return self._digest.hexdigest() if self._digest else None

    async def take(self, stream: AsyncIterator[bytes]) -> UploadView:
        """The upload with all bytes of the stream. Of one that breaks off, what came is kept."""
        try:
            async for chunk in stream:
                await self.write(chunk)
            await self.close()
        except ClientDisconnect:
            await self._keep()
            raise
        except BaseException:
            await self.discard()
            raise
        return self.upload

    async def write(self, chunk: bytes) -> None:
        """More bytes; raises PayloadTooLarge, Conflict (somebody else wrote here), NotFound and Unavailable."""
        if self._end + len(self._buffer) + len(chunk) > self.upload.reserved:
            raise upload_too_large(self.upload.reserved)
        view = memoryview(chunk)
        while view:
            taken = view[: PART - len(self._buffer)]
            self._buffer += taken
            view = view[len(taken) :]
            if len(self._buffer) == PART:
                await self._store()

    async def close(self) -> None:
        """No more comes: store the rest, and count what a checksum held back. Raises ChecksumMismatch as well."""
        await self._store()
        if self._checksum and not self._checksum.matches():
            raise ChecksumMismatch("The body is not what Upload-Checksum says.", details={"field": "Upload-Checksum"})
        await self._count()

    async def discard(self) -> None:
        """Remove what was stored and does not count."""
        keys = [part.key for part in self._uncounted]
        self._uncounted = []
        try:
            await run_in_threadpool(self._storage.delete, keys)
        except StorageError as error:  # they go with the upload
            log.warning("parts of a refused request stay", upload=str(self.upload.id), error=str(error))

    async def _keep(self) -> None:
        """The connection broke: what came counts, unless it could not be checked."""
        if self._checksum:
            return await self.discard()
        try:
            await self._store()
        except (Conflict, NotFound, Unavailable, ValidationFailed):
            await self.discard()

    async def _store(self) -> None:
        if not self._buffer:
            return
        if self._parts_left <= 0:
            raise ValidationFailed("The upload came in too many parts; send larger ones.", field="Content-Length")
        self._parts_left -= 1
        data, self._buffer = self._buffer, bytearray()
        part = NewPart(self._end, len(data), new_part_key(self._owner, self.upload.id, self._end))
        self._uncounted.append(part)
        try:
            await run_in_threadpool(self._put, part.key, data)
        except StorageError as error:
            raise Unavailable("The storage does not take files now.", headers={"Retry-After": "5"}) from error
        self._end += len(data)
        if not self._checksum:
            await self._count()

    def _put(self, key: str, data: bytearray) -> None:
        for digest in (self._digest, self._checksum):
            if digest is not None:
                digest.update(data)
        self._storage.put(key, [bytes(data)], "application/octet-stream")

    async def _count(self) -> None:
        if not self._uncounted:
            return
        parts, self._uncounted = self._uncounted, []
        # If the answer is lost they may count or not: then they stay, and go with the upload.
        grown = await self._table.add(self.upload.id, self._owner, parts)
        if grown is None:
            self._uncounted = parts
            raise await self._lost()
        self.upload = grown

    async def _lost(self) -> Conflict | NotFound:
        """Why the parts do not fit any more."""
        now = await self._table.get(self.upload.id, self._owner)
        return unknown_upload() if now is None else wrong_offset(now)


def upload_too_large(limit: int) -> PayloadTooLarge:
    """More bytes than the upload may have."""
    return PayloadTooLarge(
        f"The upload is larger than {limit} bytes.", details={"field": "Upload-Length", "limit": limit}
    )


def wrong_offset(upload: UploadView) -> Conflict:
    """The bytes do not follow those that are there; the answer tells where the upload is."""
    return Conflict(
        f"The upload has {upload.received} bytes.",
        code="offset_mismatch",
        details={"field": "Upload-Offset", "offset": upload.received},
        headers={"Upload-Offset": str(upload.received)},
    )


def unknown_upload() -> NotFound:
    """Unknown, deleted, expired and foreign ids answer alike."""
    return NotFound("There is no upload with this id.")
