"""Where a model is put together before it appears: `ATELIER_MODELS_DIR/.partial/NAME`, for one job at a time.

    plan.json     what is fetched, so that the next attempt goes on with the same commit
    parts/N       files that are not whole yet
    files/        the model's folder as it will be; what lies there is whole and verified

It becomes the model by one rename.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PARTIAL = ".partial"
LOCKS = ".locks"
KEPT_SECONDS = 7 * 86_400  # how long what nobody goes on with stays
WAIT = 0.2  # seconds between two looks at a lock


class Workspace:
    """The folder for a model of this name, whatever its family. Use it within `locked`."""

    def __init__(self, models_dir: Path, name: str) -> None:
        self._root = models_dir / PARTIAL
        self._folder = self._root / name
        self._old = self._root / f".old-{name}"
        self.files, self._parts = self._folder / "files", self._folder / "parts"

    @contextmanager
    def locked(self, wait: Callable[[], None]) -> Iterator[None]:
        """Alone with this name on this file system; `wait` is called while somebody else has it, and may raise."""
        locks = self._root / LOCKS
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / self._folder.name).open("w") as lock:
            while not _taken(lock.fileno()):
                wait()
                time.sleep(WAIT)
            yield

    def plan(self) -> Mapping[str, Any] | None:
        """What an earlier attempt set out to do; None if there was none."""
        try:
            told = json.loads((self._folder / "plan.json").read_text())
        except (OSError, ValueError):
            return None
        return told if isinstance(told, dict) else None

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Start with this plan and nothing else."""
        self.discard()
        self.files.mkdir(parents=True)
        path = self._folder / "plan.json"
        path.write_text(json.dumps(plan))
        _flush(path)

    def part(self, number: int) -> Path:
        """Where the plan's file of this number grows."""
        return self._parts / str(number)

    def keep(self, part: Path, name: str) -> None:
        """The part is whole and verified: it becomes the file of this name."""
        path = self.files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part.replace(path)

    def publish(self, destination: Path) -> None:
        """The files become the model, durably; what was there goes after it is replaced."""
        for path in sorted(self.files.rglob("*"), reverse=True):
            _flush(path)
        _flush(self.files)
        destination.parent.mkdir(parents=True, exist_ok=True)
        _remove(self._old)
        with suppress(FileNotFoundError):
            destination.rename(self._old)
        self.files.rename(destination)
        _flush(destination.parent)
        self.discard()
        _remove(self._old)

    def remove(self, destination: Path) -> None:
        """The model disappears at once, and then its bytes do; so does what is unfinished."""
        with suppress(FileNotFoundError):
            _remove(self._old)
            self._root.mkdir(parents=True, exist_ok=True)
            destination.rename(self._old)
        self.discard()
        _remove(self._old)

    def removing(self) -> bool:
        """Whether an earlier attempt has removed the model, and was stopped before its bytes were gone."""
        return self._old.exists()

    def discard(self) -> None:
        """Drop what is unfinished."""
        _remove(self._folder)


def sweep(models_dir: Path) -> None:
    """Drop what nobody has gone on with for KEPT_SECONDS."""
    horizon = time.time() - KEPT_SECONDS
    root = models_dir / PARTIAL
    for folder in root.glob("*") if root.is_dir() else ():
        if folder.name == LOCKS or _newest(folder) > horizon:
            continue
        with (root / LOCKS / folder.name).open("w") as lock:
            if _taken(lock.fileno()):
                _remove(folder)


def _newest(folder: Path) -> float:
    with suppress(FileNotFoundError):
        return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
    return time.time()


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
