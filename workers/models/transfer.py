"""Fetches one file: resumed where the last try or the last attempt was, and verified before it counts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shared.egress.client import Answer, Asking, Egress
from shared.egress.errors import EgressError
from workers.models.digests import Digests, read_into
from workers.models.disk import Disk
from workers.models.faults import HashMismatch
from workers.models.progress import Progress
from workers.runtime.runner import InputRejected, RunnerError

SECONDS = 12 * 3600.0  # for one file
SILENCE = 30.0  # seconds without a byte after which a connection counts as broken
TRIES = 4  # in a row without a new byte
PAUSES = (1.0, 3.0, 9.0)  # seconds before the next try; what a server asks for, up to LONGEST, goes before
LONGEST = 60.0
BUSY = {408, 425, 429}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file at an address: its size in bytes and, as far as they are known, its hashes.

    `version` is the ETag of what was begun: if the address has another one by now, all of it is fetched again.
    """

    name: str
    address: str
    size: int
    sha256: str | None = None
    blob: str | None = None
    token: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Refusals:
    """Which errors a place's refusals and failures are: by status and headers, and if nothing usable came."""

    refused: Callable[[int, Mapping[str, str]], InputRejected]
    blocked: Callable[[EgressError], InputRejected]
    failed: Callable[[str], RunnerError]


class _Interrupted(Exception):
    """This try ended early, and another may go on; `wait` is what the server asked for (seconds)."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _OtherBytes(Exception):
    """What came cannot be the file that is wanted."""


class Transfer:
    """Fetches files for one job."""

    def __init__(self, egress: Egress, progress: Progress, disk: Disk, refusals: Refusals) -> None:
        self._egress, self._progress, self._disk, self._refusals = egress, progress, disk, refusals

    def fetch(self, wanted: Wanted, part: Path) -> str:
        """The whole file at `part`, which may hold its beginning already; its SHA-256.

        Raises HashMismatch if it came wrong twice, DiskFull, and what the place's refusals and failures are.
        """
        part.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):
            counted = self._progress.done
            try:
                return self._complete(wanted, part)
            except _OtherBytes:
                part.unlink(missing_ok=True)
                self._progress.add(counted - self._progress.done)
        raise HashMismatch(f"{wanted.name} is not what it is said to be: it came with another size or hash, twice.")

    def _complete(self, wanted: Wanted, part: Path) -> str:
        if part.is_file() and part.stat().st_size > wanted.size:
            part.unlink()
        self._digests, self._have = Digests(wanted.size), 0
        if part.is_file():
            self._have = read_into(self._digests, part, self._progress.add)
        with self._disk.translated(), part.open("ab", buffering=0) as file:
            self._until_whole(wanted, file.fileno())
            os.fsync(file.fileno())
        if wanted.sha256 not in (None, self._digests.sha256) or wanted.blob not in (None, self._digests.blob):
            raise _OtherBytes
        return self._digests.sha256

    def _until_whole(self, wanted: Wanted, descriptor: int) -> None:
        failures = 0
        while self._have < wanted.size:
            before = self._have
            try:
                self._go_on(wanted, descriptor)
                if self._have == before:
                    raise _OtherBytes  # an answer without an error and without a byte: there is no more of it
            except _Interrupted as error:
                failures = 0 if self._have > before else failures + 1
                if failures >= TRIES:
                    raise self._refusals.failed(f"{wanted.name}: {error}") from error
                pause = PAUSES[min(failures, len(PAUSES)) - 1] if failures else 0.0
                self._progress.pause(pause if error.wait is None else min(error.wait, LONGEST))

    def _go_on(self, wanted: Wanted, descriptor: int) -> None:
        """One request for the rest."""
        headers = {"Range": f"bytes={self._have}-"} if self._have else {}
        if self._have and wanted.version:
            headers["If-Range"] = wanted.version
        asking = Asking(headers, wanted.token, seconds=SECONDS, silence=SILENCE, watch=self._progress.tell)
        try:
            with self._egress.get(wanted.address, wanted.size, asking) as answer:
                self._check(answer, wanted, descriptor)
                for chunk in answer.chunks:
                    self._keep(chunk, wanted, descriptor)
        except EgressError as error:
            if error.transient:
                raise _Interrupted("the connection broke or was silent") from error
            raise self._refusals.blocked(error) from error

    def _check(self, answer: Answer, wanted: Wanted, descriptor: int) -> None:
        if answer.status == 206 and self._have:
            if answer.headers.get("content-range") != f"bytes {self._have}-{wanted.size - 1}/{wanted.size}":
                raise _OtherBytes
        elif answer.status == 200:
            self._start_again(descriptor)
            if answer.headers.get("content-length", str(wanted.size)) != str(wanted.size):
                raise _OtherBytes
        elif answer.status == 416:
            raise _OtherBytes
        elif answer.status >= 500 or answer.status in BUSY:
            raise _Interrupted(f"the server answered with status {answer.status}", _seconds(answer.retry_after))
        else:
            raise self._refusals.refused(answer.status, answer.headers)

    def _start_again(self, descriptor: int) -> None:
        """The server sends all of it: what we had is dropped."""
        self._progress.add(-self._have)
        self._digests, self._have = Digests(self._digests.size), 0
        os.ftruncate(descriptor, 0)

    def _keep(self, chunk: bytes, wanted: Wanted, descriptor: int) -> None:
        if self._have + len(chunk) > wanted.size:
            raise _OtherBytes
        view = memoryview(chunk)
        while view:
            view = view[os.write(descriptor, view) :]
        self._digests.update(chunk)
        self._have += len(chunk)
        self._disk.written(len(chunk))
        self._progress.add(len(chunk))


def _seconds(retry_after: str | None) -> float | None:
    with suppress(TypeError, ValueError):
        return max(0.0, float(retry_after))  # type: ignore[arg-type]
    return None
