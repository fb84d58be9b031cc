"""The most memory that a process held resident since it was last asked to begin anew, as Linux counts it."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

PEAK = re.compile(rb"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
RESET = b"5"  # see proc(5): only the peak, nothing that swapping depends on
LONGEST = 4096  # bytes of a status


class _Own(NamedTuple):
    """This process's open files: opening them would take longer than reading them, at every attempt."""

    status: int
    reset: int


def forget() -> None:
    """Begin anew for this process."""
    if (own := _own()) is not None:
        os.write(own.reset, RESET)


def peak() -> int | None:
    """Of this process, in bytes; None where nobody can tell since when they would be counted."""
    own = _own()
    return _peak_in(os.pread(own.status, LONGEST, 0)) if own is not None else None


def peak_of(pid: int) -> int | None:
    """Of another process of this machine, which counts as we would; None if it has died, too."""
    if _own() is None:
        return None
    try:
        return _peak_in(Path(f"/proc/{pid}/status").read_bytes())
    except OSError:
        return None


def _peak_in(status: bytes) -> int | None:
    found = PEAK.search(status)
    return int(found[1]) * 1024 if found else None


@lru_cache
def _own() -> _Own | None:
    """None if this kernel or this container does not let a process begin anew."""
    try:
        reset = os.open("/proc/self/clear_refs", os.O_WRONLY)
        os.write(reset, RESET)
        return _Own(os.open("/proc/self/status", os.O_RDONLY), reset)
    except OSError:
        return None
