"""Artifacts in a folder: written apart, flushed, then linked into place, so a reader sees all or nothing."""

from __future__ import annotations

import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.storage.interface import CHUNK, ObjectExists, ObjectMissing, StorageError, StoredObject
from shared.storage.keys import checked_key
from shared.storage.tally import Tally

PARTIAL = ".partial"  # the folder of unfinished files; no key starts with a dot
MIN_FREE = 0.05  # share of the disk below which the store counts as broken
LINK_TRIES = 10


@contextmanager
def _translated(what: str, missing: type[StorageError] = StorageError) -> Iterator[None]:
    """The operating system's errors as the interface's."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError) as error:
        raise missing(f"{what}: {error.strerror}") from error
    except OSError as error:
        raise StorageError(f"{what}: {error.strerror or error}") from error


class LocalStorage:
    """Objects under one root folder of a file system that has hard links."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, key: str, chunks: Iterable[bytes], media_type: str) -> StoredObject:
        """See Storage.put; the media type is not kept (the manifest has it)."""
        path = self._path(key)
        tally = Tally(key)
        with self._temporary(key) as temporary:
            _write(key, temporary, tally.over(chunks))
            with _translated(key):
                _publish(key, temporary, path)
        return tally.stored()

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See Storage.read."""
        with _translated(key, missing=ObjectMissing):
            file = self._path(key).open("rb", buffering=0)
        with file:
            size = os.fstat(file.fileno()).st_size
            left = (size if end is None else end) - start
            if end is not None and end > size:
                raise StorageError(f"{key} is shorter than {end} bytes")
            file.seek(start)
            while left > 0:
                with _translated(key):
                    chunk = file.read(min(CHUNK, left))
                if not chunk:
                    raise StorageError(f"{key} became shorter while it was read")
                left -= len(chunk)
                yield chunk

    def size(self, key: str) -> int:
        """See Storage.size."""
        path = self._path(key)
        with _translated(key, missing=ObjectMissing):
            status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ObjectMissing(key)
        return status.st_size

    def delete(self, keys: Iterable[str]) -> None:
        """See Storage.delete; folders that become empty go too."""
        for key in keys:
            path = self._path(key)
            with _translated(key), suppress(FileNotFoundError, IsADirectoryError):
                path.unlink()
            self._prune(path.parent)

    def list(self, prefix: str) -> Iterator[str]:
        """See Storage.list."""
        folder = self._path(prefix.rstrip("/"))
        with _translated(prefix):
            for parent, _, names in os.walk(folder, onerror=_raise_unless_gone):
                for name in names:
                    yield Path(parent, name).relative_to(self._root).as_posix()

    def sweep(self, older_than: float) -> None:
        """See Storage.sweep."""
        horizon = time.time() - older_than
        with _translated("sweep"):
            for path in (self._root / PARTIAL).glob("*"):
                with suppress(FileNotFoundError):  # its writer may finish meanwhile
                    if path.stat().st_mtime < horizon:
                        path.unlink()

    def check(self) -> None:
        """See Storage.check; writes and links a file, and a disk that is nearly full counts as broken."""
        with self._temporary("storage folder") as written, self._temporary("storage folder") as linked:
            _write("storage folder", written, [b"check"])
            with _translated("storage folder"):
                os.link(written, linked)
                usage = shutil.disk_usage(self._root)
        if usage.free < MIN_FREE * usage.total:
            raise StorageError(f"storage folder: the disk is nearly full ({usage.free} of {usage.total} bytes free)")

    def _path(self, key: str) -> Path:
        return self._root / checked_key(key)

    @contextmanager
    def _temporary(self, what: str) -> Iterator[Path]:
        """A free name in the folder of unfinished files; what lies there afterwards is removed."""
        path = self._root / PARTIAL / uuid.uuid4().hex
        with _translated(what):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield path
        finally:
            with suppress(OSError):  # a sweep gets it later
                path.unlink()

    def _prune(self, folder: Path) -> None:
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:  # not empty, or gone already
                return
            folder = folder.parent


def _write(key: str, path: Path, chunks: Iterable[bytes]) -> None:
    """A new file, flushed to the disk. Only the disk's own errors are translated, not those of the chunks."""
    with _translated(key):
        file = path.open("xb", buffering=0)
    with file:
        for chunk in chunks:
            with _translated(key):
                _write_all(file.fileno(), chunk)
        with _translated(key):
            os.fsync(file.fileno())


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def _publish(key: str, temporary: Path, path: Path) -> None:
    """Give the file its name, durably. Its folders need no flush of their own: a journal keeps their order."""
    _link(key, temporary, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _link(key: str, temporary: Path, path: Path) -> None:
    """Link, not rename: a link fails if the name is taken. A delete may prune the folder between the two steps."""
    for tries_left in reversed(range(LINK_TRIES)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _link_once(key, temporary, path)
            return
        except (FileNotFoundError, FileExistsError):  # pruned before the link, or while it was made
            if not tries_left:
                raise


def _link_once(key: str, temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise ObjectExists(key) from None


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
