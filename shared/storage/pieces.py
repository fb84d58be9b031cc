"""A file that lies in storage as one object or as several in a row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.storage.interface import Storage


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of the file's bytes: an object's key and its size."""

    key: str
    size: int


def read_pieces(storage: Storage, pieces: Sequence[Piece]) -> Iterator[bytes]:
    """The whole file in chunks; raises what `Storage.read` raises."""
    for piece in pieces:
        yield from storage.read(piece.key, 0, piece.size)


def head_of_pieces(storage: Storage, pieces: Sequence[Piece], length: int) -> bytes:
    """The first `length` bytes, fewer if the file is shorter."""
    head = b""
    for piece in pieces:
        head += b"".join(storage.read(piece.key, 0, min(length - len(head), piece.size)))
        if len(head) == length:
            break
    return head


def sha256_of_pieces(storage: Storage, pieces: Sequence[Piece]) -> str:
    """The whole file's SHA-256 in hex."""
    digest = hashlib.sha256()
    for chunk in read_pieces(storage, pieces):
        digest.update(chunk)
    return digest.hexdigest()
