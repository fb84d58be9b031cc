"""Files that lie in storage already and that a new job may use: artifacts of earlier jobs, and uploads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from services.gateway.jobs.file_texts import JOB, parse_reference
from shared.errors import Unavailable
from shared.jobs.queries import JobQueries
from shared.signatures import HEAD
from shared.storage.interface import Storage, StorageError
from shared.storage.pieces import Piece, head_of_pieces, read_pieces


@dataclass(frozen=True, slots=True)
class StoredFile:
    """`name` is None if it has none, `size` is in bytes, `sha256` in hex."""

    name: str | None
    size: int
    sha256: str
    pieces: tuple[Piece, ...]

    def head(self, storage: Storage) -> bytes:
        """The bytes that tell what it is; raises Unavailable."""
        try:
            return head_of_pieces(storage, self.pieces, HEAD)
        except StorageError as error:
            raise Unavailable("The storage cannot be read now.", headers={"Retry-After": "5"}) from error

    def read(self, storage: Storage) -> Iterator[bytes]:
        """All of it in chunks; raises StorageError."""
        return read_pieces(storage, self.pieces)


class UsesUploads(Protocol):
    """What is asked of `services.gateway.uploads.service.Uploads`."""

    async def use(self, reference: str, owner: str) -> StoredFile | None: ...


@dataclass(frozen=True, slots=True)
class StoredFiles:
    """Finds an owner's files by the texts that name them."""

    jobs: JobQueries
    uploads: UsesUploads
    storage: Storage

    async def find(self, source: str, owner: str) -> StoredFile | None:
        """The file of `job:<id>/<name>` or `upload:<id>`; None alike if it is unknown, foreign, unfinished or gone."""
        return await (self._artifact if source.startswith(JOB) else self.uploads.use)(source, owner)

    async def _artifact(self, source: str, owner: str) -> StoredFile | None:
        parsed = parse_reference(source)
        result = await self.jobs.result(parsed[0], owner) if parsed else None
        for entry in result.manifest if result and not result.job.purged else []:
            if parsed and entry["name"] == parsed[1]:
                return StoredFile(None, entry["size"], entry["sha256"], (Piece(entry["key"], entry["size"]),))
        return None
