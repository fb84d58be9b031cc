"""The folder for what a worker's children leave when they die: their last words, and their jobs' files."""

from __future__ import annotations

import os
from pathlib import Path

# Set by the parent for its children: where the folder is.
WORDS_FOLDER = "WORKER_LAST_WORDS"
ROOM = "atelier-worker-"  # how its name begins; what follows is of this run of the worker alone


def run_name() -> str:
    """Tells this run of the worker from all others."""
    return Path(os.environ[WORDS_FOLDER]).name.removeprefix(ROOM)


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
