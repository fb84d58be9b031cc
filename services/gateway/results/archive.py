"""A ZIP whose every byte has a known place: members are stored, their sizes and CRC-32s come from the manifest.

So the length is exact, any range can be served, and nothing is buffered or written to disk. Layout after PKWARE's
APPNOTE 6.3.10; ZIP64 records only where a size or an offset needs them.
"""

from __future__ import annotations

import bisect
import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

from shared.storage.checked import read_checked
from shared.storage.interface import Storage

MAX32 = 0xFFFFFFFF
MAX16 = 0xFFFF
UTF8_NAMES = 0x800
REGULAR_FILE = 0o100644 << 16


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the archive: its bytes are `content`, or lie in storage under `key`."""

    name: str
    size: int
    crc32: int
    sha256: str
    modified: datetime
    content: bytes | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        path = PurePosixPath(self.name)
        if path.is_absolute() or ".." in path.parts or str(path) != self.name or "\\" in self.name:
            raise ValueError(f"not a safe member name: {self.name!r}")


@dataclass(frozen=True, slots=True)
class _Segment:
    start: int
    end: int
    content: bytes | None
    key: str | None
    crc32: int


class Archive:
    """The layout of these members, in this order. `size` in bytes; `etag` is strong and quoted."""

    def __init__(self, members: Sequence[Member]) -> None:
        if len({member.name for member in members}) != len(members):
            raise ValueError("two members share a name")
        self._segments: list[_Segment] = []
        self.size = 0
        identity, directory = hashlib.sha256(), bytearray()
        for member in members:
            directory += _central_header(member, self.size)
            self._append(_local_header(member))
            self._append_member(member)
            identity.update(f"{member.name}\0{member.size}\0{member.sha256}\0{member.modified.timestamp()}\n".encode())
        self._append(bytes(directory) + _end(len(members), len(directory), self.size))
        self._starts = [segment.start for segment in self._segments]
        self.etag = f'"{identity.hexdigest()[:32]}"'

    def read(self, storage: Storage, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes [start, end), in the chunks that storage gives; ObjectDamaged comes before a wrong member's end."""
        end = self.size if end is None else min(end, self.size)
        index = max(0, bisect.bisect_right(self._starts, start) - 1)
        while start < end:
            segment = self._segments[index]
            low, high = start - segment.start, min(end, segment.end) - segment.start
            if segment.content is not None:
                yield segment.content[low:high]
            elif segment.key is not None:
                size = segment.end - segment.start
                yield from read_checked(storage, segment.key, size, segment.crc32, low, high)
            start, index = min(end, segment.end), index + 1

    def _append(self, content: bytes) -> None:
        self._segments.append(_Segment(self.size, self.size + len(content), content, None, 0))
        self.size += len(content)

    def _append_member(self, member: Member) -> None:
        if member.size:
            self._segments.append(
                _Segment(self.size, self.size + member.size, member.content, member.key, member.crc32)
            )
            self.size += member.size


def _dos_time(moment: datetime) -> tuple[int, int]:
    date = (max(moment.year, 1980) - 1980) << 9 | moment.month << 5 | moment.day
    return moment.hour << 11 | moment.minute << 5 | moment.second // 2, date


def _common(member: Member, extra: bytes, version: int) -> bytes:
    """The fields that local and central headers share, from "version needed" to "extra length"."""
    time, date = _dos_time(member.modified)
    size, name = min(member.size, MAX32), member.name.encode()
    return struct.pack(
        "<HHHHHIIIHH", version, UTF8_NAMES, 0, time, date, member.crc32, size, size, len(name), len(extra)
    )


def _local_header(member: Member) -> bytes:
    big = member.size >= MAX32
    extra = struct.pack("<HHQQ", 1, 16, member.size, member.size) if big else b""
    return b"PK\3\4" + _common(member, extra, 45 if big else 20) + member.name.encode() + extra


def _central_header(member: Member, offset: int) -> bytes:
    fields = struct.pack("<QQ", member.size, member.size) if member.size >= MAX32 else b""
    fields += struct.pack("<Q", offset) if offset >= MAX32 else b""
    extra = struct.pack("<HH", 1, len(fields)) + fields if fields else b""
    version = 45 if extra else 20
    made_by_unix = struct.pack("<H", 3 << 8 | version)
    rest = struct.pack("<HHHII", 0, 0, 0, REGULAR_FILE, min(offset, MAX32))
    return b"PK\1\2" + made_by_unix + _common(member, extra, version) + rest + member.name.encode() + extra


def _end(count: int, size: int, offset: int) -> bytes:
    """End of central directory, behind its ZIP64 form if any of its numbers needs that."""
    record = b""
    if count >= MAX16 or size >= MAX32 or offset >= MAX32:
        record = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, size, offset)
        record += b"PK\6\7" + struct.pack("<IQI", 0, offset + size, 1)
    n, s, o = min(count, MAX16), min(size, MAX32), min(offset, MAX32)
    return record + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, n, n, s, o, 0)
