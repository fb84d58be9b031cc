"""Room on the disk of the models: asked for before a download and looked at while it runs."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.models.faults import DiskFull

EVERY = 64 << 20  # bytes written between two looks


class Disk:
    """The file system of `folder`, of which `reserve` bytes stay free."""

    def __init__(self, folder: Path, reserve: int) -> None:
        self._folder, self._reserve, self._unseen = folder, reserve, 0

    def require(self, size: int) -> None:
        """Raise DiskFull unless so many more bytes fit."""
        free = shutil.disk_usage(self._folder).free
        if free - self._reserve < size:
            raise DiskFull(
                f"The disk of the models has {free} bytes free; {size} are needed, and {self._reserve} must stay free "
                "(ATELIER_MODELS_RESERVE_BYTES)."
            )

    def written(self, count: int) -> None:
        """So many bytes were; raises DiskFull if others filled the disk meanwhile."""
        self._unseen += count
        if self._unseen >= EVERY:
            self._unseen = 0
            self.require(0)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """A full disk as DiskFull."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull("The disk of the models is full.") from error
            raise
