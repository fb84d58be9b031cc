"""What Atelier asks of an object store: create-once keys, ranged reads, constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

CHUNK = 512 * 1024  # bytes read or written at a time


class StorageError(Exception):
    """The store could not do it (down, full, refused); trying again later may work."""


class ObjectMissing(StorageError):
    """No object has this key."""


class ObjectExists(StorageError):
    """The key is taken: objects are created once and never changed."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What was written: `size` in bytes, `sha256` in hex, `crc32` as an unsigned int."""

    key: str
    size: int
    sha256: str
    crc32: int


class Storage(Protocol):
    """Keys are relative POSIX paths made by the platform, never by a client; any other key is a ValueError.

    No key is a folder of another. One instance may be used by many threads.
    """

    def put(self, key: str, chunks: Iterable[bytes], media_type: str) -> StoredObject:
        """Write a new object from chunks of any size; raises ObjectExists if the key is taken, StorageError otherwise.

        Nothing is visible under the key until all of it is durable. What the chunks themselves raise passes
        through, and leaves nothing visible either.
        """
        ...

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes [start, end), or from start to the last, in chunks of at most CHUNK.

        Nothing is opened before the first chunk is asked for: only then come ObjectMissing, and StorageError if the
        object ends before `end`. To stop early, close the iterator or let go of it.
        """
        ...

    def size(self, key: str) -> int:
        """Length in bytes; raises ObjectMissing."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; missing keys are no error."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Keys under this prefix (whole path segments, with or without a slash at the end), in any order."""
        ...

    def sweep(self, older_than: float) -> None:
        """Remove what writers that died left half written, untouched for this many seconds."""
        ...

    def check(self) -> None:
        """Raise StorageError, with what is wrong, unless the store can be read and written now."""
        ...
