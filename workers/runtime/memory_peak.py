"""The most memory that a process held resident since it was last asked to begin anew, as Linux counts it."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

PEAK = re.compile(rb"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
CLEAR = Path("/proc/self/clear_refs")
RESET = b"5"  # see proc(5): only the peak, nothing that swapping depends on


def forget() -> None:
    """Begin anew for this process."""
    if _can_forget():
        _write()


def peak(pid: int | str = "self") -> int | None:
    """Bytes; None of a process that has died, and where nobody can tell since when they would be counted."""
    if not _can_forget():
        return None
    try:
        with Path(f"/proc/{pid}/status").open("rb", buffering=0) as status:
            found = PEAK.search(status.read())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


@lru_cache
def _can_forget() -> bool:
    """Not every kernel and not every container lets a process do that."""
    try:
        _write()
    except OSError:
        return False
    return True


def _write() -> None:
    with CLEAR.open("wb", buffering=0) as file:
        file.write(RESET)
