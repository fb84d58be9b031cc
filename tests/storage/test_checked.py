"""What is read back is what was written, or nothing: whatever range is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.storage.checked import ObjectDamaged, read_checked
from shared.storage.interface import CHUNK, StorageError, StoredObject
from shared.storage.local import LocalStorage

CONTENT = bytes(range(256)) * 9000  # some chunks, the last one shorter
SIZE = len(CONTENT)
RANGES = [
    (0, None),
    (0, SIZE),
    (1, None),
    (CHUNK, None),
    (SIZE - 1, None),
    (0, 10),
    (10, SIZE - 1),
    (5, 5),
    (SIZE, None),
]


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


@pytest.fixture
def stored(storage: LocalStorage) -> StoredObject:
    return storage.put("a/b", [CONTENT], "application/octet-stream")


def read(storage: LocalStorage, stored: StoredObject, start: int, end: int | None) -> bytes:
    return b"".join(read_checked(storage, stored.key, stored.size, stored.crc32, start, end))


@pytest.mark.parametrize(("start", "end"), RANGES)
def test_every_range_of_a_sound_object(
    storage: LocalStorage, stored: StoredObject, start: int, end: int | None
) -> None:
    assert read(storage, stored, start, end) == CONTENT[start:end]


@pytest.mark.parametrize("place", [0, CHUNK, SIZE - 1])
@pytest.mark.parametrize("start", [0, 1, CHUNK, SIZE - 1])
def test_the_end_of_a_damaged_object_is_never_given(
    storage: LocalStorage, stored: StoredObject, tmp_path: Path, place: int, start: int
) -> None:
    damaged = bytearray(CONTENT)
    damaged[place] ^= 1
    (tmp_path / "a/b").write_bytes(damaged)
    given = bytearray()
    with pytest.raises(ObjectDamaged):
        given.extend(byte for chunk in read_checked(storage, "a/b", SIZE, stored.crc32, start) for byte in chunk)
    assert len(given) < SIZE - start


def test_an_object_that_became_shorter(storage: LocalStorage, stored: StoredObject, tmp_path: Path) -> None:
    (tmp_path / "a/b").write_bytes(CONTENT[:-1])
    with pytest.raises(StorageError):
        read(storage, stored, 0, None)


def test_an_empty_object(storage: LocalStorage) -> None:
    empty = storage.put("e", [], "application/octet-stream")
    assert read(storage, empty, 0, None) == b""
