"""What the janitor does about files that were stored for a job whose row never came: their gateway died, or its commit
did, and nobody else knows of them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

# A commit that comes for one of these waits for the lock, finds its row gone, and refuses the job.
LEFT = text("""
SELECT job_id AS id, owner FROM arriving_files
WHERE since < now() - make_interval(secs => :age) AND job_id <> ALL(CAST(:but AS uuid[]))
LIMIT 10 FOR UPDATE SKIP LOCKED
""")
FORGET = text("DELETE FROM arriving_files WHERE job_id = ANY(:ids)")


@dataclass(frozen=True, slots=True)
class LeftFiles:
    """The files of a job that will never be; `id` is the one it would have had."""

    id: UUID
    owner: str


def left_files(connection: Connection, age: float, but: Collection[UUID] = ()) -> list[LeftFiles]:
    """Some of those announced at least `age` seconds ago (longer than any request takes). Locks the rows."""
    rows = connection.execute(LEFT, {"age": age, "but": list(but)})
    return [LeftFiles(**row._mapping) for row in rows]


def forget_left_files(connection: Connection, files: list[LeftFiles]) -> None:
    """They are gone, and no job will be made of them."""
    connection.execute(FORGET, {"ids": [left.id for left in files]})
