"""The worker's children as their parent knows them: alive or dead, and what a dead one left."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared.jobs.records import Seen
from workers.runtime import memory_peak
from workers.runtime.last_words import Begun, begun_by, lines_of
from workers.runtime.room import ROOM, WORDS_FOLDER, files_path, held_by_nobody, hold_room, words_path

REMEMBERED = 60.0  # seconds for which a dead child is asked after


class Child:
    """One process of the pool. Of a living one is looked what nobody can see when it has died."""

    def __init__(self, process: Any) -> None:
        self.process, self.pid = process, int(process.pid)
        self.died_at: float | None = None
        self._words = words_path(self.pid)
        self._begun: Begun | None = None
        self._peak: int | None = None

    def look(self) -> bool:
        """Whether it has died since the last look."""
        if self.died_at is not None:
            return False
        if not self.process.is_alive():
            self.died_at = time.monotonic()
            shutil.rmtree(files_path(self.pid), ignore_errors=True)
            return True
        begun, peak = begun_by(self._words), memory_peak.peak_of(self.pid)
        if peak is not None and begun is not None and begun == begun_by(self._words):
            self._peak = max(peak, self._peak or 0) if begun == self._begun else peak
            self._begun = begun
        return False

    def left(self) -> Seen:
        """How it died, and what it said last. Its peak is the highest that was seen of its last attempt."""
        code, begun = self.process.exitcode, begun_by(self._words)
        return Seen(
            device=begun.device if begun else None,
            memory_bytes=self._peak if begun and begun == self._begun else None,
            exit_code=code if code is not None and code >= 0 else None,
            signal=-code if code is not None and code < 0 else None,
            lines=lines_of(self._words),
        )

    def say(self, line: str) -> None:
        """Add a line of the parent's to what it leaves."""
        with suppress(OSError), self._words.open("a") as file:
            file.write(f"{line}\n")

    def forget(self) -> None:
        """Nobody will ask any more."""
        with suppress(OSError):
            self._words.unlink()


class Children:
    """All of a pool's, the dead ones for as long as somebody may ask after them."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._known: dict[int, Child] = {}

    def look(self) -> bool:
        """Meet the new ones, and look at all: whether one has died since the last look."""
        for process in list(self._pool._pool):
            known = self._known.get(process.pid)
            if process.pid is not None and (known is None or known.process is not process):
                self._known[process.pid] = Child(process)
        died = [child.look() for child in self._known.values()]
        for child in [child for child in self._known.values() if _is_forgotten(child)]:
            child.forget()
            del self._known[child.pid]
        return any(died)

    def alive(self) -> Sequence[int]:
        """Their pids."""
        return [process.pid for process in self._pool._pool if process.is_alive()]

    def have_started(self) -> bool:
        """Whether one of them is past its imports: a child makes its file when it is ready for a job."""
        return any(words_path(pid).exists() for pid in self.alive())

    def left_by(self, pid: int | None) -> Seen:
        """What this dead child left; nothing if it came and went between two looks, or in an earlier run."""
        child = self._known.get(pid) if pid is not None else None
        return child.left() if child is not None else Seen()

    def say_of(self, pid: int, line: str) -> None:
        """A line for what this child leaves."""
        if child := self._known.get(pid):
            child.say(line)


def make_room() -> None:
    """The folder of the children's last words, which only this user may read; they inherit its name.

    Those of workers that were killed go: people's files may lie there.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{ROOM}*"):
        with suppress(OSError), held_by_nobody(left):
            shutil.rmtree(left)
    while True:
        os.environ[WORDS_FOLDER] = tempfile.mkdtemp(prefix=ROOM)
        with suppress(FileNotFoundError):  # another worker took it for left before it was held
            return hold_room()


def remove_room() -> None:
    """With all that is in it."""
    shutil.rmtree(os.environ[WORDS_FOLDER], ignore_errors=True)


def _is_forgotten(child: Child) -> bool:
    return child.died_at is not None and time.monotonic() - child.died_at > REMEMBERED
