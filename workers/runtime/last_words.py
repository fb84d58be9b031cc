"""The newest lines of a child's log, which outlive it: memory for itself, a file for the parent that finds it dead.

The file begins with the number of attempts that the child has begun, by which its parent tells what belongs to the
last one, and with the device.
"""

from __future__ import annotations

import faulthandler
import logging
import mmap
import os
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from structlog.contextvars import get_contextvars

from shared.jobs.records import LONGEST_LINE, MAX_LINES
from shared.logging import line_formatter
from shared.redaction import redact_text

CRASH = "Fatal Python error"  # how faulthandler begins
HEAD = struct.Struct("<q56s")
LARGEST = 256 * 1024  # bytes of the file; beyond it only its newest lines are kept


class LastWords(logging.Handler):
    """A handler for the root logger of a child. Without a `path` nobody but the process itself can ask.

    OSError if there can be no such file.
    """

    def __init__(self, path: Path | None = None) -> None:
        super().__init__()
        self.setFormatter(line_formatter("worker", json_lines=False))
        self._lines: deque[tuple[str | None, str]] = deque(maxlen=MAX_LINES)
        self._attempts = 0
        self._size = 0
        self._file: int | None = None
        if path is not None:
            path.parent.mkdir(mode=0o700, exist_ok=True)  # who cleans temporary folders up may have taken it
            path.unlink(missing_ok=True)  # of a process that had this pid before
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            os.write(self._file, HEAD.pack(0, b""))
            self._head = mmap.mmap(self._file, HEAD.size)
            faulthandler.enable(self._file, all_threads=False)  # tells where a segfault happened

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, with the job that it speaks of, if it says which."""
        with suppress(Exception):  # no log line may end a job; stderr's handler says what is wrong with this one
            job = get_contextvars().get("job")
            for line in self.format(record).splitlines():
                self._keep(job, _cut(line))

    def begin(self, device: str) -> None:
        """An attempt begins on this device: what was said before is not its own."""
        with self._alone():
            if self._lines:
                self._lines.clear()
                self._empty()
            self._attempts += 1
            if self._file is not None:
                self._head[:] = HEAD.pack(self._attempts, device.encode())

    def of(self, job: str) -> tuple[str, ...]:
        """What was said since the attempt began, but for what was said of other jobs of its batch."""
        with self._alone():
            return tuple(line for said_of, line in self._lines if said_of in (None, job))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def _keep(self, job: Any, line: str) -> None:
        self._lines.append((job, line))
        if self._file is None:
            return
        if self._size > LARGEST:
            self._empty()
            for _, kept in self._lines:
                self._write(kept)
        else:
            self._write(line)

    def _write(self, line: str) -> None:
        assert self._file is not None
        self._size += os.write(self._file, line.encode() + b"\n")

    def _empty(self) -> None:
        self._size = 0
        if self._file is not None:
            os.ftruncate(self._file, HEAD.size)


class Begun(NamedTuple):
    """Which attempt of its own a child has begun last, counted from 1, and on which device."""

    attempt: int
    device: str


def begun_by(path: Path) -> Begun | None:
    """None while it has begun none."""
    try:
        with path.open("rb", buffering=0) as file:
            attempt, device = HEAD.unpack(file.read(HEAD.size))
    except (OSError, struct.error):
        return None
    return Begun(attempt, device.rstrip(b"\0").decode()) if attempt else None


def lines_of(path: Path) -> tuple[str, ...]:
    """The last lines of a child that has died, and where it was if the interpreter crashed."""
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(max(HEAD.size, file.seek(0, os.SEEK_END) - 4 * MAX_LINES * LONGEST_LINE))
            said = file.read().decode("utf-8", "replace")
    except OSError:
        return ()
    lines = [_cut(redact_text(line)) for line in said.replace("\0", "").splitlines() if line.strip()]
    crash = next((n for n, line in enumerate(lines) if line.startswith(CRASH)), len(lines))
    stack = lines[crash:][: MAX_LINES // 2]  # its beginning is the innermost
    return (*lines[:crash][-(MAX_LINES - len(stack)) :], *stack)


def _cut(line: str) -> str:
    line = line.encode("utf-8", "backslashreplace").decode()  # half a pair of surrogates is no text to Postgres
    return line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…"
