"""Hashes of a file's content: SHA-256, and git's own, by which the hub knows small files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

CHUNK = 1 << 20  # bytes


class Digests:
    """Both hashes of a content of `size` bytes, fed piece by piece."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._sha256 = hashlib.sha256()
        self._blob = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)

    def update(self, piece: bytes) -> None:
        self._sha256.update(piece)
        self._blob.update(piece)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def blob(self) -> str:
        return self._blob.hexdigest()


def read_into(digests: Digests, path: Path, tell: Callable[[int], None]) -> int:
    """Feed what the file holds; how many bytes that is. `tell` hears of each piece's length."""
    size = 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(CHUNK):
            digests.update(piece)
            size += len(piece)
            tell(len(piece))
    return size
