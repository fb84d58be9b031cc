"""How far a job of this family is, in bytes, and the way by which a cancellation reaches it."""

from __future__ import annotations

import time

from workers.runtime.runner import Job

EVERY = 0.2  # seconds between two reports; a cancellation is heard as soon


class Progress:
    """Bytes done of `total`; `tell` may be called as often as one likes and raises JobStopped."""

    def __init__(self, job: Job) -> None:
        self._job, self._told_at = job, 0.0
        self.done = self.total = 0

    def add(self, count: int) -> None:
        """So many bytes more (or, if negative, fewer)."""
        self.done += count
        self.tell()

    def tell(self) -> None:
        """Say it, if the last time was a while ago."""
        now = time.monotonic()
        if now - self._told_at >= EVERY or self.done == self.total > 0:
            self._told_at = now
            self._job.progress(self.done, self.total)

    def pause(self, seconds: float) -> None:
        """Wait, but not for a job that must stop."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.tell()
            time.sleep(min(EVERY, left))
