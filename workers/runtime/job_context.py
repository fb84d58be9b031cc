"""What a runner holds of its job: it reports progress here, saves artifacts here, and is stopped from here.

The deadline is kept here as well: a job that runs stops at its first step after it, whatever the heartbeat hears.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from pathlib import Path, PurePosixPath
from statistics import median
from typing import Any
from uuid import UUID

from shared.events import EventPublisher
from shared.jobs.claims import Claim
from workers.runtime.runner import JobStopped

PUBLISH_EVERY = 0.1  # seconds between two progress messages of one phase
PREVIEW_EVERY = 0.5
DRAIN_MARGIN = 0.15  # share of the grace period that is kept for uploading


class StopReason(StrEnum):
    """Why a running job must stop at its next step."""

    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DRAINED = "drained"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that the runner made; it is uploaded after the run."""

    name: str
    content: bytes
    media_type: str


class JobContext:
    """One attempt as its runner sees it (`workers.runtime.runner.Job`)."""

    def __init__(self, claim: Claim, events: EventPublisher, *, drain_until: Callable[[], float | None]) -> None:
        self.claim = claim
        self.id = str(claim.id)
        self.operation = claim.operation
        self.wants_preview = False
        self.inputs: dict[str, Path] = {}
        self.artifacts: list[Artifact] = []
        self.moved_at = self._timed_from = time.monotonic()
        self.stop_reason: StopReason | None = None
        self._deadline = inf if claim.remaining is None else self.moved_at + claim.remaining
        self._batch: Sequence[JobContext] = (self,)
        self._events, self._drain_until = events, drain_until
        self._durations: list[float] = []
        self._step = 0
        self._published_at = self._preview_at = 0.0
        self._state: dict[str, Any] = {}
        self._preview: str | None = None

    @property
    def uuid(self) -> UUID:
        return self.claim.id

    @property
    def cancelled(self) -> bool:
        """Whether the job must stop; `progress` raises then, or, in a batch, when all of its jobs must."""
        if time.monotonic() >= self._deadline:
            self.stop(StopReason.EXPIRED)
        return self.stop_reason is not None

    def stop(self, reason: StopReason) -> None:
        """Make the next `progress` raise JobStopped; called from the heartbeat's thread."""
        self.stop_reason = self.stop_reason or reason

    def join(self, batch: Sequence[JobContext]) -> None:
        """Run as one of these from now on: while one of them goes on, `progress` goes on for all."""
        self._batch = batch

    def leave_batch(self) -> None:
        """Go on alone."""
        self._batch = (self,)

    def start_over(self) -> None:
        """Go on alone and from the beginning: its batch came to nothing."""
        self.leave_batch()
        self.artifacts.clear()
        self._durations.clear()

    def snapshot(self) -> dict[str, Any] | None:
        """The newest progress, without the preview, as the row keeps it."""
        return self._state or None

    def phase(self, name: str) -> None:
        """Enter loading, running or uploading; raises JobStopped if the job must stop."""
        self.check()
        self.moved_at = self._timed_from = time.monotonic()
        done = {"uploading": 99.0}.get(name, 0.0)
        self._state = {**self._state, "attempt": self.claim.attempt, "phase": name, "progress": done}
        self._publish()

    def progress(self, step: int, total: int, preview: Callable[[], bytes] | None = None) -> None:
        """Say that `step` of `total` is done; raises JobStopped if the job must stop."""
        now = time.monotonic()
        if step > self._step:  # several at once count as equally long; said again, a step says only that we live
            self._durations.append((now - self._timed_from) / (step - self._step))
        if step != self._step:
            self._step, self._timed_from = step, now
        self.moved_at = now
        remaining = self._remaining(total - step)
        self._state |= {
            "step": step,
            "total_steps": total,
            "progress": round(99.0 * step / total, 1) if total else 0.0,
            "estimated_remaining": round(remaining, 2),
        }
        self._drain_if_too_long(remaining)
        self.check()
        if preview and self.wants_preview and now - self._preview_at >= PREVIEW_EVERY and step < total:
            self._preview_at = now
            self._preview = "data:image/jpeg;base64," + base64.b64encode(preview()).decode()
            self.moved_at = self._timed_from = time.monotonic()  # the next step is timed without this picture
        if now - self._published_at >= PUBLISH_EVERY or step == total:
            self._publish()

    def save(self, name: str, content: bytes, media_type: str) -> None:
        """Add an artifact; names are unique relative paths."""
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or str(path) != name or "\\" in name:
            raise ValueError(f"not a relative file name: {name!r}")
        if any(artifact.name == name for artifact in self.artifacts):
            raise ValueError(f"saved twice: {name!r}")
        self.artifacts.append(Artifact(name, content, media_type))

    def check(self) -> None:
        """Raise JobStopped if the job must stop, and with it all of its batch."""
        if all(job.cancelled for job in self._batch):
            raise JobStopped(self.stop_reason)

    def _remaining(self, steps: int) -> float:
        # The first step pays for warming up, and outliers happen: the median of the recent ones tells more.
        recent = self._durations[max(1, len(self._durations) - 20) :] or self._durations or [0.0]
        return median(recent) * steps

    def _drain_if_too_long(self, remaining: float) -> None:
        until = self._drain_until()
        if until is None:
            return
        left = until - time.monotonic()
        if remaining > left * (1 - DRAIN_MARGIN):
            self.stop(StopReason.DRAINED)

    def _publish(self) -> None:
        self._published_at = time.monotonic()
        preview = {"preview": self._preview} if self._preview else {}
        self._events.progress(self.claim.id, self._state | preview)
