"""What the janitor does to uploads: past their time they are deleted, and deleted ones lose their bytes later."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

EXPIRE = text("""
UPDATE uploads SET deleted_at = now()
WHERE id IN (SELECT id FROM uploads WHERE deleted_at IS NULL AND expires_at < now() LIMIT 500 FOR UPDATE SKIP LOCKED)
RETURNING id
""")

# An upload that others share its bytes with waits for the last of them, deleted ones too.
DOOMED = text("""
SELECT id, owner FROM uploads doomed
WHERE deleted_at < now() - make_interval(secs => :grace)
    AND NOT EXISTS (SELECT 1 FROM uploads other WHERE other.content = doomed.id AND other.id <> doomed.id)
    AND id <> ALL(CAST(:but AS uuid[]))
LIMIT 10 FOR UPDATE SKIP LOCKED
""")
REMOVE = text("DELETE FROM uploads WHERE id = ANY(:ids)")


@dataclass(frozen=True, slots=True)
class DoomedUpload:
    """An upload whose bytes and row go now."""

    id: UUID
    owner: str


def expire_uploads(connection: Connection) -> int:
    """Delete uploads past their time: from now on nobody can use them. None if no more are due."""
    return connection.execute(EXPIRE).rowcount


def doomed_uploads(connection: Connection, grace: float, but: Collection[UUID] = ()) -> list[DoomedUpload]:
    """Some of those deleted at least `grace` seconds ago (longer than any copy or part takes). Locks the rows."""
    rows = connection.execute(DOOMED, {"grace": grace, "but": list(but)})
    return [DoomedUpload(**row._mapping) for row in rows]


def remove_uploads(connection: Connection, uploads: list[DoomedUpload]) -> None:
    """Their bytes are gone, and so are they."""
    connection.execute(REMOVE, {"ids": [upload.id for upload in uploads]})
