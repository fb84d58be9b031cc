"""The folder for what a worker's children leave when they die: their last words, and their jobs' files."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Set by the parent for its children: where the folder is.
WORDS_FOLDER = "WORKER_LAST_WORDS"
ROOM = "atelier-worker-"  # how its name begins; what follows is of this run of the worker alone
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def run_name() -> str:
    """Tells this run of the worker from all others."""
    return Path(os.environ[WORDS_FOLDER]).name.removeprefix(ROOM)


def hold_room() -> None:
    """While this process lives, no other worker removes the folder. FileNotFoundError if one did."""
    folder = Path(os.environ[WORDS_FOLDER])
    fcntl.flock(os.open(folder, FOLDER), fcntl.LOCK_SH)
    folder.stat()


@contextmanager
def held_by_nobody(folder: Path) -> Iterator[None]:
    """For as long as it is looked after here, nobody holds it. OSError if somebody does."""
    held = os.open(folder, FOLDER)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(held)


def words_path(pid: int) -> Path:
    """The file of this child's last words."""
    return Path(os.environ[WORDS_FOLDER]) / str(pid)


def files_path(pid: int) -> Path:
    """The folder of this child's jobs' files: its parent removes what it did not."""
    return Path(os.environ[WORDS_FOLDER]) / f"{pid}.files"


def own_files() -> Path | None:
    """That of this process; None if it has no parent that looks after it. OSError if there can be none."""
    if WORDS_FOLDER not in os.environ:
        return None
    folder = files_path(os.getpid())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # who cleans temporary folders up may have taken it
    return folder
