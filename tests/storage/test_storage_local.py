"""What only a folder can get wrong."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import pytest

from shared.storage.interface import CHUNK, ObjectExists, ObjectMissing, StorageError
from shared.storage.local import PARTIAL, LocalStorage

KEY = "results/owner/job/1/0.bin"
MEDIA = "application/octet-stream"

KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from shared.storage.local import LocalStorage

def chunks():
    yield bytes(1000)
    os.kill(os.getpid(), signal.SIGKILL)

LocalStorage(Path(sys.argv[1])).put(sys.argv[2], chunks(), "")
"""


@contextmanager
def file_size_limit(most: int) -> Iterator[None]:
    """A disk that refuses to hold more than this of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def unfinished(root: Path) -> list[Path]:
    return list((root / PARTIAL).glob("*"))


def test_exactly_one_of_many_writers_wins(local: LocalStorage) -> None:
    together = Barrier(8)

    def put(number: int) -> bool:
        content = bytes([number]) * CHUNK
        together.wait(30)
        try:
            local.put(KEY, [content], MEDIA)
        except ObjectExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(put, range(8)))
    assert won.count(True) == 1
    assert b"".join(local.read(KEY)) == bytes([won.index(True)]) * CHUNK


def test_a_killed_writer_leaves_only_what_a_sweep_removes(local: LocalStorage, tmp_path: Path) -> None:
    root = tmp_path / "store"
    killed = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(root), KEY], check=False)
    assert killed.returncode < 0
    (leftover,) = unfinished(root)
    assert list(local.list("results")) == []
    with pytest.raises(ObjectMissing):
        local.size(KEY)
    local.sweep(older_than=3600)
    assert unfinished(root) == [leftover]
    os.utime(leftover, (0, 0))
    local.sweep(older_than=3600)
    assert unfinished(root) == []


def test_a_disk_that_refuses(local: LocalStorage, tmp_path: Path) -> None:
    with file_size_limit(3 * CHUNK), pytest.raises(StorageError, match="File too large"):
        local.put(KEY, (bytes(CHUNK) for _ in range(5)), MEDIA)
    assert unfinished(tmp_path / "store") == []
    assert list(local.list("results")) == []


def test_a_root_that_is_a_file(local: LocalStorage, tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"in the way")
    for ask in (
        local.check,
        lambda: local.put(KEY, [b"x"], MEDIA),
        lambda: next(local.read(KEY)),
        lambda: local.size(KEY),
        lambda: local.delete([KEY]),
        lambda: list(local.list("results")),
    ):
        with pytest.raises(StorageError, match="Not a directory") as raised:
            ask()
        assert not isinstance(raised.value, ObjectMissing)  # a lost disk must not pass for a lost object


def test_a_nearly_full_disk_is_reported(local: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=1000, used=960, free=40))
    with pytest.raises(StorageError, match="nearly full"):
        local.check()


def test_a_file_system_without_hard_links_is_reported(local: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StorageError, match="not permitted"):
        local.check()


def test_an_object_that_was_cut_short(local: LocalStorage, tmp_path: Path) -> None:
    local.put(KEY, [bytes(3 * CHUNK)], MEDIA)
    chunks = local.read(KEY)
    next(chunks)
    os.truncate(tmp_path / "store" / KEY, CHUNK)
    with pytest.raises(StorageError, match="shorter"):
        next(chunks)


def test_an_open_reader_survives_a_delete(local: LocalStorage) -> None:
    local.put(KEY, [bytes(3 * CHUNK)], MEDIA)
    chunks = local.read(KEY)
    first = next(chunks)
    local.delete([KEY])
    assert len(first) + sum(map(len, chunks)) == 3 * CHUNK


def test_delete_removes_empty_folders_but_not_the_root(local: LocalStorage, tmp_path: Path) -> None:
    other = "results/owner/other/1/0.bin"
    local.put(KEY, [b"x"], MEDIA)
    local.put(other, [b"x"], MEDIA)
    local.delete([KEY])
    assert names(tmp_path / "store/results/owner") == ["other"]
    local.delete([other])
    assert names(tmp_path / "store") == [PARTIAL]


def test_a_put_survives_the_pruning_of_its_folder(local: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # for speed: only the order of calls matters here

    def churn(writer: int) -> None:
        for number in range(300):
            key = f"results/owner/{writer}/{number}"
            local.put(key, [b"x"], MEDIA)
            local.delete([key])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(churn, range(4)))
    assert list(local.list("results")) == []
