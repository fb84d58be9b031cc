"""The thread that keeps a lease alive, hears cancellations at once, and ends a child whose job no longer moves."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from shared.jobs.attempts import Attempt, Pulse
from shared.jobs.notices import CANCEL_CHANNEL
from shared.listener import Listener
from shared.logging import get_logger
from shared.settings import Settings
from workers.runtime.job_context import JobContext, StopReason

log = get_logger(__name__)

STOPS = {
    Pulse.CANCELLED: StopReason.CANCELLED,
    Pulse.EXPIRED: StopReason.EXPIRED,
    Pulse.LOST: StopReason.LOST,
}


class Heartbeat(threading.Thread):
    """One thread a child; it watches the job that runs now.

    A living heart over a hung kernel proves nothing, so a job whose progress stands still for `stall_seconds` takes
    the whole process with it: nothing gentler frees a hung device.
    """

    def __init__(self, settings: Settings, engine: Engine) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._settings, self._engine = settings, engine
        self._lock = threading.Lock()
        self._watched: tuple[Attempt, JobContext] | None = None
        self._cancelled: deque[str] = deque(maxlen=1000)
        self._next = self._confirmed = time.monotonic()
        self._listener = Listener(settings.database_url, CANCEL_CHANNEL)

    def watch(self, attempt: Attempt, job: JobContext) -> None:
        """Keep this attempt's lease from now on."""
        with self._lock:
            self._confirmed = time.monotonic()
            self._next = self._confirmed + self._settings.heartbeat_seconds
            self._watched = attempt, job
            if job.id in self._cancelled:  # its notice came before we watched
                job.stop(StopReason.CANCELLED)

    def release(self) -> None:
        """The attempt is over."""
        with self._lock:
            self._watched = None

    def run(self) -> None:
        while True:
            patience = max(0.0, min(self._next - time.monotonic(), self._settings.heartbeat_seconds))
            self._hear(self._listener.wait(patience))
            with self._lock:
                if self._watched and time.monotonic() >= self._next:
                    self._beat(*self._watched)
                elif not self._watched:
                    self._next = time.monotonic() + self._settings.heartbeat_seconds

    def _hear(self, job_ids: list[str]) -> None:
        with self._lock:
            self._cancelled.extend(job_ids)
            if self._watched and self._watched[1].id in job_ids:
                self._watched[1].stop(StopReason.CANCELLED)

    def _beat(self, attempt: Attempt, job: JobContext) -> None:
        now = time.monotonic()
        self._next = now + self._settings.heartbeat_seconds
        if now - job.moved_at > self._settings.stall_seconds:
            log.error("no progress, ending this process", job=job.id, seconds=round(now - job.moved_at))
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            with self._engine.begin() as connection:
                pulse = attempt.beat(connection, self._settings.lease_seconds, job.snapshot())
        except SQLAlchemyError:
            # No answer for a whole lease: somebody else may have the job by now.
            if now - self._confirmed > self._settings.lease_seconds:
                job.stop(StopReason.LOST)
            return
        self._confirmed = now
        if pulse in STOPS:
            job.stop(STOPS[pulse])
