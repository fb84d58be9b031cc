"""What the gateway does to uploads (asyncpg). Every statement names the owner: a foreign id is unknown.

Nobody holds a lock while bytes arrive. The count of received bytes is the fence: parts are added only by a request
that knows where they begin, in one statement, so of two that write at the same place one wins and the other hears so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from shared.errors import Conflict, PayloadTooLarge, RateLimited
from shared.ids import new_id
from shared.storage.pieces import Piece
from shared.wall import acting_for

UPLOADS_LOCK = 3
COLUMNS = "id, content, name, metadata, length, reserved, received, parts, sha256, media_type, created_at, expires_at"
LIVE = "deleted_at IS NULL AND expires_at > now()"

LOCK = "SELECT pg_advisory_xact_lock($1, hashtext($2))"
UNFINISHED = f"SELECT count(*) FROM uploads WHERE owner = $1 AND sha256 IS NULL AND {LIVE}"
# Bytes that are shared count once, also if the upload that they came with is deleted.
STORED = f"""
SELECT coalesce(sum(reserved), 0) FROM uploads
WHERE id IN (SELECT content FROM uploads WHERE owner = $1 AND {LIVE})
"""
CREATE = f"""
INSERT INTO uploads (id, owner, content, name, metadata, length, reserved, expires_at)
VALUES ($1, $2, $1, $3, $4, $5, $6, now() + make_interval(secs => $7)) RETURNING {COLUMNS}
"""
GET = f"SELECT {COLUMNS} FROM uploads WHERE id = $1 AND owner = $2 AND {LIVE}"
SET_LENGTH = f"""
UPDATE uploads SET length = $3, reserved = $3
WHERE id = $1 AND owner = $2 AND length IS NULL AND received <= $3 AND {LIVE} RETURNING {COLUMNS}
"""
ADD = f"""
WITH grown AS (
    UPDATE uploads SET received = received + (SELECT sum(size) FROM unnest($5::bigint[]) AS size),
        parts = parts + cardinality($4::bigint[]), expires_at = now() + make_interval(secs => $7)
    WHERE id = $1 AND owner = $2 AND received = $3 AND sha256 IS NULL AND {LIVE} RETURNING {COLUMNS}
), added AS (
    INSERT INTO upload_parts (upload_id, start, size, key)
    SELECT grown.id, part.* FROM grown, unnest($4::bigint[], $5::bigint[], $6::text[]) AS part)
SELECT * FROM grown
"""
EQUAL = f"""
SELECT content FROM uploads WHERE owner = $1 AND sha256 = $2 AND {LIVE} ORDER BY id LIMIT 1 FOR SHARE
"""
COMPLETE = f"""
UPDATE uploads SET sha256 = $4, media_type = $5, length = received, reserved = received, content = coalesce($6, id),
    name = coalesce(name, $8), expires_at = now() + make_interval(secs => $7)
WHERE id = $1 AND owner = $2 AND received = $3 AND sha256 IS NULL AND {LIVE} RETURNING {COLUMNS}
"""
DROP_PARTS = "DELETE FROM upload_parts WHERE upload_id = $1 RETURNING key"
PIECES = "SELECT key, size FROM upload_parts WHERE upload_id = $1 ORDER BY start"
USE = f"""
UPDATE uploads SET expires_at = now() + make_interval(secs => $3)
WHERE id = $1 AND owner = $2 AND sha256 IS NOT NULL AND {LIVE} RETURNING {COLUMNS}
"""
DELETE = f"UPDATE uploads SET deleted_at = now() WHERE id = $1 AND owner = $2 AND {LIVE} RETURNING id"
PAGE = f"""
SELECT {COLUMNS} FROM uploads
WHERE owner = $1 AND {LIVE} AND ($2::uuid IS NULL OR id < $2) AND ($3::text IS NULL OR sha256 = $3)
ORDER BY id DESC LIMIT $4
"""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Unfinished uploads and stored bytes an owner may have (0 means no limit); how long each kind is kept (s)."""

    unfinished: int
    stored_bytes: int
    unfinished_seconds: float
    complete_seconds: float


@dataclass(frozen=True, slots=True)
class UploadView:
    """An upload as the gateway sees it; sizes in bytes. `reserved` is the most that it may become."""

    id: UUID
    content: UUID
    name: str | None
    metadata: str | None
    length: int | None
    reserved: int
    received: int
    parts: int
    sha256: str | None
    media_type: str | None
    created_at: datetime
    expires_at: datetime

    @property
    def complete(self) -> bool:
        return self.sha256 is not None

    @property
    def all_received(self) -> bool:
        return self.received == self.length


@dataclass(frozen=True, slots=True)
class NewPart:
    """Bytes of an upload that lie in storage and do not count yet."""

    start: int
    size: int
    key: str


class UploadQueries:
    """Reads and writes of uploads."""

    def __init__(self, pool: asyncpg.Pool, limits: UploadLimits) -> None:
        self._pool, self._limits = pool, limits

    async def create(
        self, owner: str, length: int | None, reserved: int, name: str | None, metadata: str | None
    ) -> UploadView:
        """Begin an upload; RateLimited or PayloadTooLarge if the owner has too many or too much already."""
        limits = self._limits
        async with self._alone(owner) as db:
            if limits.unfinished and (count := await db.fetchval(UNFINISHED, owner)) >= limits.unfinished:
                raise _too_many(limits.unfinished, count)
            if limits.stored_bytes:
                stored = int(await db.fetchval(STORED, owner))
                if stored + reserved > limits.stored_bytes:
                    raise _too_much(limits.stored_bytes, stored)
            values = (new_id(), owner, name, metadata, length, reserved, limits.unfinished_seconds)
            return _view(await db.fetchrow(CREATE, *values))

    async def stored(self, owner: str) -> int:
        """Bytes of all uploads of the owner, announced ones included."""
        async with acting_for(self._pool, [owner]) as db:
            return int(await db.fetchval(STORED, owner))

    async def get(self, upload_id: UUID, owner: str) -> UploadView | None:
        """The owner's upload, or None."""
        return await self._one(owner, GET, upload_id, owner)

    async def set_length(self, upload_id: UUID, owner: str, length: int) -> UploadView | None:
        """Say how long the file is; None if that was said before, or more has come."""
        return await self._one(owner, SET_LENGTH, upload_id, owner, length)

    async def add(self, upload_id: UUID, owner: str, parts: Sequence[NewPart]) -> UploadView | None:
        """Count these parts, which follow each other; None if they do not begin where the upload ends by now."""
        starts, sizes, keys = ([getattr(part, name) for part in parts] for name in ("start", "size", "key"))
        life = self._limits.unfinished_seconds
        return await self._one(owner, ADD, upload_id, owner, starts[0], starts, sizes, keys, life)

    async def complete(
        self, upload: UploadView, owner: str, sha256: str, media_type: str, name: str | None
    ) -> tuple[UploadView | None, list[str]]:
        """Say what the bytes are; with an equal upload it shares the bytes, and the keys are those of its own.

        None if it is complete already, or gone.
        """
        async with self._alone(owner) as db:
            content = await db.fetchval(EQUAL, owner, sha256)
            life = self._limits.complete_seconds
            values = (upload.id, owner, upload.received, sha256, media_type, content, life, name)
            done = _maybe(await db.fetchrow(COMPLETE, *values))
            spare = await db.fetch(DROP_PARTS, upload.id) if done and content else []
        return done, [row["key"] for row in spare]

    async def pieces(self, upload: UploadView, owner: str) -> list[Piece]:
        """Where the bytes lie, in order."""
        async with acting_for(self._pool, [owner]) as db:
            return [Piece(row["key"], row["size"]) for row in await db.fetch(PIECES, upload.content)]

    async def use(self, upload_id: UUID, owner: str) -> UploadView | None:
        """The owner's complete upload, which lives on for its whole time from now; or None."""
        return await self._one(owner, USE, upload_id, owner, self._limits.complete_seconds)

    async def delete(self, upload_id: UUID, owner: str) -> bool:
        """Forget it: it disappears at once, the janitor removes its bytes."""
        async with acting_for(self._pool, [owner]) as db:
            return await db.fetchval(DELETE, upload_id, owner) is not None

    async def page(self, owner: str, before: UUID | None, sha256: str | None, limit: int) -> list[UploadView]:
        """The owner's uploads, newest first, older than `before`."""
        async with acting_for(self._pool, [owner]) as db:
            return [_view(row) for row in await db.fetch(PAGE, owner, before, sha256, limit)]

    async def _one(self, owner: str, statement: str, *values: Any) -> UploadView | None:
        async with acting_for(self._pool, [owner]) as db:
            return _maybe(await db.fetchrow(statement, *values))

    @asynccontextmanager
    async def _alone(self, owner: str) -> AsyncIterator[asyncpg.Connection]:
        """A transaction in which nobody else counts or completes this owner's uploads."""
        try:
            async with acting_for(self._pool, [owner]) as connection, connection.transaction():
                await connection.execute(LOCK, UPLOADS_LOCK, owner)
                yield connection
        except asyncpg.LockNotAvailableError:
            busy = "Another upload of yours is being counted; try again."
            raise Conflict(busy, headers={"Retry-After": "1"}) from None


def _view(row: asyncpg.Record) -> UploadView:
    return UploadView(**dict(row))


def _maybe(row: asyncpg.Record | None) -> UploadView | None:
    return None if row is None else _view(row)


def _too_many(limit: int, current: int) -> RateLimited:
    return RateLimited(
        f"You already have {current} unfinished uploads; finish or delete one.",
        code="too_many_uploads",
        details={"limit": limit, "current": current},
        headers={"Retry-After": "60"},
    )


def _too_much(limit: int, current: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"Your uploads may take {limit} bytes together and take {current}; delete some.",
        code="upload_quota",
        details={"field": "Upload-Length", "limit": limit, "current": current},
    )
