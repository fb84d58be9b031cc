"""Reads what has been written, and nothing else: disks and stores flip bits, and tell nobody."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from shared.storage.interface import Storage, StorageError


class ObjectDamaged(StorageError):
    """The object's bytes are not those that were written; only a copy of them would help."""


def read_checked(
    storage: Storage, key: str, size: int, sha256: str, start: int = 0, end: int | None = None
) -> Iterator[bytes]:
    """The bytes [start, end) of an object that was written with this size and SHA-256 (hex), as `Storage.read` has it.

    Its last byte is given only when all of it was found to be what was written, else ObjectDamaged comes in its place:
    whoever puts an object together from ranges cannot get a wrong one whole. A range that ends the object reads what
    lies before it as well.
    """
    end = size if end is None else end
    if end < size or start >= end:
        yield from storage.read(key, start, end)
        return
    digest, passed = hashlib.sha256(), 0
    for chunk in storage.read(key, 0, size):
        digest.update(chunk)
        before, passed = passed, passed + len(chunk)
        if passed == size and digest.hexdigest() != sha256:
            raise ObjectDamaged(f"{key} is not what was written: its SHA-256 is {digest.hexdigest()}, not {sha256}")
        if passed > start:
            yield chunk[max(0, start - before) :]
