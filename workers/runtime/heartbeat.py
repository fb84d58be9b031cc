"""The thread that keeps leases alive, hears cancellations at once, and ends a child whose jobs no longer move."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID

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


class Held(NamedTuple):
    """An attempt that this process holds, and what its runner is given of it."""

    attempt: Attempt
    job: JobContext


class Heartbeat(threading.Thread):
    """One thread a child; it watches what runs now: one job, or those of a batch.

    A living heart over a hung kernel proves nothing, so where the progress of all jobs stands still for `stall_seconds`
    the whole process goes with them: nothing gentler frees a hung device.
    """

    def __init__(self, settings: Settings, engine: Engine) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._settings, self._engine = settings, engine
        self._lock = threading.Lock()
        self._watched: tuple[Held, ...] = ()
        self._closed = False
        self._cancelled: deque[str] = deque(maxlen=1000)
        self._next = self._confirmed = time.monotonic()
        self._listener = Listener(settings.database_url, CANCEL_CHANNEL)

    def watch(self, held: Sequence[Held]) -> None:
        """Keep these attempts' leases from now on."""
        with self._lock:
            self._confirmed = time.monotonic()
            self._next = self._confirmed + self._settings.heartbeat_seconds
            self._watched = tuple(held)
            self._cancel(self._cancelled)  # whose notices came before we watched

    def release(self, held: Sequence[Held]) -> None:
        """These attempts are over."""
        with self._lock:
            self._watched = tuple(one for one in self._watched if one not in held)

    def held(self) -> list[UUID]:
        """The jobs whose leases are kept."""
        with self._lock:
            return [attempt.id for attempt, _ in self._watched]

    def close(self) -> None:
        """End the thread; nothing is watched any more."""
        self._closed = True
        self.join()
        self._listener.close()

    def run(self) -> None:
        while not self._closed:
            patience = max(0.0, min(self._next - time.monotonic(), self._settings.heartbeat_seconds))
            self._hear(self._listener.wait(patience))
            with self._lock:
                if self._watched and time.monotonic() >= self._next:
                    self._beat(self._watched)
                elif not self._watched:
                    self._next = time.monotonic() + self._settings.heartbeat_seconds

    def _hear(self, job_ids: list[str]) -> None:
        with self._lock:
            self._cancelled.extend(job_ids)
            self._cancel(job_ids)

    def _cancel(self, cancelled: Collection[str]) -> None:
        for _, job in self._watched:
            if job.id in cancelled:
                job.stop(StopReason.CANCELLED)

    def _beat(self, watched: tuple[Held, ...]) -> None:
        now = time.monotonic()
        self._next = now + self._settings.heartbeat_seconds
        moved_at = max(job.moved_at for _, job in watched)
        if now - moved_at > self._settings.stall_seconds:
            jobs = [job.id for _, job in watched]
            log.error("no progress, ending this process", jobs=jobs, seconds=round(now - moved_at))
            os.kill(os.getpid(), signal.SIGKILL)
        lease = self._settings.lease_seconds
        try:
            with self._engine.begin() as connection:
                pulses = [attempt.beat(connection, lease, job.snapshot()) for attempt, job in watched]
        except SQLAlchemyError:
            # No answer for a whole lease: others may have the jobs by now.
            if now - self._confirmed > lease:
                for _, job in watched:
                    job.stop(StopReason.LOST)
            return
        self._confirmed = now
        for (_, job), pulse in zip(watched, pulses, strict=True):
            if pulse in STOPS:
                job.stop(STOPS[pulse])
