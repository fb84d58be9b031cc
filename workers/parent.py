"""The worker's parent: it never imports torch. It reports the worker, drains its child, and tells when a child died."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from typing import Any

from celery.signals import task_failure, worker_ready, worker_shutdown, worker_shutting_down
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from shared.catalog.reports import report_models
from shared.database import open_database
from shared.events import EventPublisher
from shared.family import ModelCard
from shared.fleet import REPORT_SECONDS
from shared.fleet.reports import forget_resident, report, touch
from shared.jobs.upkeep import Budget, reap_worker
from shared.logging import get_logger
from shared.settings import Settings, get_settings
from shared.storage.open import open_storage
from workers.child import worker_name
from workers.families import served_families
from workers.model_folders import HASHES
from workers.runtime.store_trust import StoreTrust

log = get_logger(__name__)

CANCEL_PATIENCE = 30  # seconds until a child that does not stop for a cancellation is killed

# A child may hold a batch: it is not killed for the wish to cancel one job while it works on the others.
HELD = text("""
SELECT lease_owner, bool_or(lease_expires_at < now())
    OR bool_and(coalesce(cancel_requested_at < now() - make_interval(secs => :patience), false)) AS hopeless
FROM jobs WHERE state = 'running' AND starts_with(lease_owner, :prefix) GROUP BY lease_owner
""")

# Jobs that have been due for a while, for which the dispatcher has rung, and that still nobody claimed.
UNHEARD = text("""
SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 'queued' AND family = ANY(:families) AND dispatch_no > 0
               AND dispatched_at IS NOT NULL AND run_after < now() - make_interval(secs => :deaf))
""")


class Guard(threading.Thread):
    """Looks every few seconds, and at once when Celery loses a child, at what the children hold."""

    def __init__(self, settings: Settings, pool: Any) -> None:
        super().__init__(name="guard", daemon=True)
        self._settings, self._pool = settings, pool
        self._name = worker_name(os.getpid())
        self._engine: Engine = open_database(settings.database_url, pool_size=1, name="atelier-worker-guard")
        self._events = EventPublisher(settings.redis_url)
        self._wake = threading.Event()
        self._state = "ready"
        self._reported: dict[str, tuple[ModelCard, ...]] = {}
        self._deaf_since: float | None = None

    def run(self) -> None:
        while self._state != "stopped":
            try:
                self._report_models()
                self._round()
            except SQLAlchemyError as error:
                log.warning("the database is away", error=str(error).split("\n", 1)[0])
            self._wake.wait(REPORT_SECONDS)
            self._wake.clear()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def drain(self) -> None:
        """Tell the children that the worker stops."""
        self._state = "draining"
        for pid in self._children():
            _signal(pid, signal.SIGUSR2)
        self.wake()

    def leave(self) -> None:
        """The worker has stopped."""
        self._state = "stopped"
        self.wake()
        self.join(timeout=5)
        try:
            with self._engine.begin() as connection:
                touch(connection, self._name, "stopped")
        except SQLAlchemyError as error:
            log.warning("could not sign off", error=str(error).split("\n", 1)[0])
        self._events.close()
        self._engine.dispose()

    def _report_models(self) -> None:
        """Tell what lies on the disk, if that has changed: models may be added while the worker runs.

        The worker enters the fleet together with its first models: whoever sees it can name them.
        """
        families = served_families()
        found = {family.name: family.discover() for family in families.values()}
        changed = {name: cards for name, cards in found.items() if cards != self._reported.get(name)}
        with self._engine.begin() as connection:
            if not self._reported:
                report(connection, self._name, list(families), self._settings.device, self._state, {})
            for name, cards in changed.items():
                report_models(connection, self._name, name, cards)
        self._reported = found
        HASHES.compute_in_background()  # a later round tells them

    def _round(self) -> None:
        with self._engine.begin() as connection:
            touch(connection, self._name, self._state)
            held = connection.execute(HELD, {"prefix": f"{self._name}/", "patience": CANCEL_PATIENCE}).all()
            forget_resident(connection, self._name, self._children())
            unheard = connection.execute(
                UNHEARD, {"families": list(served_families()), "deaf": self._settings.deaf_seconds}
            ).scalar_one()
        self._end_if_deaf(bool(unheard) and not held)
        alive = set(self._children())
        for row in held:
            pid = int(row.lease_owner.rsplit("/", 1)[1])
            if pid not in alive:
                self._reap(row.lease_owner)
            elif row.hopeless:
                log.error("the child does not stop, killing it", pid=pid)
                _signal(pid, signal.SIGKILL)
                self.wake()

    def _end_if_deaf(self, idle_and_unheard: bool) -> None:
        """A worker that sits idle beside unheard doorbells has lost its broker without noticing: start afresh."""
        if not idle_and_unheard or self._state != "ready":
            self._deaf_since = None
            return
        self._deaf_since = self._deaf_since or time.monotonic()
        if time.monotonic() - self._deaf_since >= self._settings.deaf_seconds:
            if not self._store_works():  # then its children take nothing
                self._deaf_since = None
                return
            log.error("this worker hears no doorbells, ending it", seconds=self._settings.deaf_seconds)
            os._exit(1)  # nothing runs here; a supervisor starts it again

    def _store_works(self) -> bool:
        s = self._settings
        return StoreTrust(open_storage(s.storage_url, s.s3_endpoint_url, s.s3_region)).works()

    def _reap(self, lease_owner: str) -> None:
        s = self._settings
        budget = Budget(s.max_crashes, s.max_failures, s.backoff_seconds, s.result_ttl_seconds)
        with self._engine.begin() as connection:
            moved = reap_worker(connection, budget, lease_owner)
        for job in moved:
            log.warning("a child died with this job", job=str(job.id), state=job.state)
        self._events.changed(*(job.id for job in moved))

    def _children(self) -> list[int]:
        return [process.pid for process in self._pool._pool if process.is_alive()]


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


_guards: list[Guard] = []


@worker_ready.connect
def _on_ready(sender: Any, **_: object) -> None:
    guard = Guard(get_settings(), sender.pool._pool)
    guard.start()
    _guards.append(guard)


@task_failure.connect
def _on_lost(**_: object) -> None:
    for guard in _guards:
        guard.wake()


@worker_shutting_down.connect
def _on_stop(**_: object) -> None:
    for guard in _guards:
        guard.drain()


@worker_shutdown.connect
def _on_stopped(**_: object) -> None:
    for guard in _guards:
        guard.leave()
