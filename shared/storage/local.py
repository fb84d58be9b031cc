"""Artifacts in a folder: written beside their place, flushed, then linked into it, so a reader sees all or nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.storage.interface import CHUNK, ObjectExists, ObjectMissing, StorageError, StoredObject
from shared.storage.keys import checked_key

TEMPORARY = ".partial-"
MIN_FREE = 0.05  # share of the disk below which nothing more is accepted


@contextmanager
def _translated(key: str) -> Iterator[None]:
    """The operating system's errors as the interface's."""
    try:
        yield
    except FileNotFoundError:
        raise ObjectMissing(key) from None
    except OSError as error:
        raise StorageError(f"{key}: {error.strerror}") from error


class LocalStorage:
    """Objects under one root folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, key: str, chunks: Iterable[bytes], media_type: str) -> StoredObject:
        """See Storage.put; the media type is not kept (the manifest has it)."""
        path = self._root / checked_key(key)
        with _translated(key):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
        try:
            stored = self._write(key, temporary, chunks)
            with _translated(key):
                self._publish(key, temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return stored

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See Storage.read; raises StorageError if the file is shorter than `end`."""
        with _translated(key):
            file = (self._root / checked_key(key)).open("rb", buffering=0)
        with file:
            file.seek(start)
            left = os.fstat(file.fileno()).st_size - start if end is None else end - start
            while left > 0:
                with _translated(key):
                    chunk = file.read(min(CHUNK, left))
                if not chunk:
                    raise StorageError(f"{key} is shorter than it was")
                left -= len(chunk)
                yield chunk

    def size(self, key: str) -> int:
        """See Storage.size."""
        with _translated(key):
            return (self._root / checked_key(key)).stat().st_size

    def delete(self, keys: Iterable[str]) -> None:
        """See Storage.delete; folders that become empty go too."""
        for key in keys:
            path = self._root / checked_key(key)
            with _translated(key):
                path.unlink(missing_ok=True)
                self._prune(path.parent)

    def list(self, prefix: str) -> Iterator[str]:
        """See Storage.list."""
        folder = self._root / checked_key(prefix.rstrip("/"))
        for path in folder.rglob("*"):
            if path.is_file() and not path.name.startswith(TEMPORARY):
                yield path.relative_to(self._root).as_posix()

    def check(self) -> None:
        """See Storage.check; a disk that is nearly full counts as broken."""
        with _translated("storage"):
            self._root.mkdir(parents=True, exist_ok=True)
            usage = shutil.disk_usage(self._root)
        if not os.access(self._root, os.W_OK):
            raise StorageError("the storage folder is not writable")
        if usage.free < MIN_FREE * usage.total:
            raise StorageError("the storage disk is nearly full")

    def _write(self, key: str, path: Path, chunks: Iterable[bytes]) -> StoredObject:
        size, crc, digest = 0, 0, hashlib.sha256()
        with _translated(key):
            file = path.open("xb", buffering=0)
        with file:
            for chunk in chunks:
                digest.update(chunk)
                crc = zlib.crc32(chunk, crc)
                size += len(chunk)
                with _translated(key):
                    _write_all(file.fileno(), chunk)
            with _translated(key):
                os.fsync(file.fileno())
        return StoredObject(key, size, digest.hexdigest(), crc)

    def _publish(self, key: str, temporary: Path, path: Path) -> None:
        try:
            path.hardlink_to(temporary)  # fails if the name is taken, unlike rename
        except FileExistsError:
            raise ObjectExists(key) from None
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _prune(self, folder: Path) -> None:
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:  # not empty, or gone already
                return
            folder = folder.parent


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]
