"""The computed ZIP: exact for every range, readable by everybody, right beyond 4 GiB."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.results.archive import Archive, Member

MOMENT = datetime(2026, 11, 21, 10, 20, 30, tzinfo=UTC)


class Memory:
    """Objects in a dictionary; notes which iterators were closed."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects, self.closed = objects, 0

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        part = self.objects[key][start:end]
        try:
            for first in range(0, len(part), 7):
                yield part[first : first + 7]
        finally:
            self.closed += 1


class Zeros:
    """Objects of zeros, of any size, that exist nowhere."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        assert end is not None
        while start < end:
            step = min(1 << 20, end - start)
            yield bytes(step)
            start += step


def member(name: str, content: bytes, inline: bool = False) -> Member:
    digest = hashlib.sha256(content).hexdigest()
    where = {"content": content} if inline else {"key": name}
    return Member(name, len(content), zlib.crc32(content), digest, MOMENT, **where)  # type: ignore[arg-type]


CONTENTS = {"manifest.json": b"{}", "a/é.bin": bytes(range(256)) * 3, "empty": b"", "b.png": b"x" * 1000}
ARCHIVE = Archive([member(name, content, name == "manifest.json") for name, content in CONTENTS.items()])
STORE = Memory(CONTENTS)
WHOLE = b"".join(ARCHIVE.read(STORE))  # type: ignore[arg-type]


def test_it_is_a_zip_that_others_read(tmp_path: Path) -> None:
    assert len(WHOLE) == ARCHIVE.size
    opened = zipfile.ZipFile(io.BytesIO(WHOLE))
    assert opened.testzip() is None
    assert {name: opened.read(name) for name in opened.namelist()} == CONTENTS
    assert opened.infolist()[0].date_time == (2026, 11, 21, 10, 20, 30)
    if unzip := shutil.which("unzip"):
        path = tmp_path / "a.zip"
        path.write_bytes(WHOLE)
        assert subprocess.run([unzip, "-tq", path], capture_output=True).returncode == 0


@given(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)))
def test_every_range_is_the_slice_of_the_whole(start: int, end: int) -> None:
    assert b"".join(ARCHIVE.read(STORE, start, end)) == WHOLE[start:end]  # type: ignore[arg-type]


def test_closing_early_closes_the_objects_reader() -> None:
    store = Memory(CONTENTS)
    chunks = ARCHIVE.read(store, WHOLE.index(bytes(range(256))) + 1)  # type: ignore[arg-type]
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert store.closed == 1


def test_the_etag_names_the_contents() -> None:
    def etag(content: bytes, name: str = "a") -> str:
        return Archive([member(name, content)]).etag

    assert etag(b"1") == etag(b"1")
    assert len({etag(b"1"), etag(b"2"), etag(b"1", "b"), ARCHIVE.etag}) == 4


class Lazy(io.RawIOBase):
    """A huge archive as a file that makes its bytes when they are read."""

    def __init__(self, archive: Archive) -> None:
        self._archive, self._at = archive, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._archive.size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self._archive.size if size < 0 else min(self._at + size, self._archive.size)
        content = b"".join(self._archive.read(Zeros(), self._at, end))  # type: ignore[arg-type]
        self._at += len(content)
        return content


def test_beyond_4_gib_and_65535_members() -> None:
    huge = Member("huge", 5 * 2**30, 0, "0" * 64, MOMENT, key="huge")
    small = [Member(f"{n}", 3, zlib.crc32(bytes(3)), "1" * 64, MOMENT, key="small") for n in range(66_000)]
    opened = zipfile.ZipFile(Lazy(Archive([huge, *small])))  # type: ignore[arg-type]
    assert len(opened.namelist()) == 66_001
    assert opened.getinfo("huge").file_size == 5 * 2**30
    assert opened.read("65999") == bytes(3), "an offset beyond 4 GiB"


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a\\b", "a//b", "./a", ""])
def test_names_that_would_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        Archive([member(name, b"")])


def test_two_members_do_not_share_a_name() -> None:
    with pytest.raises(ValueError, match="share"):
        Archive([member("a", b"1"), member("a", b"2")])
