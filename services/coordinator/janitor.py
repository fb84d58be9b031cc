"""Removes what nobody may use any more: results past their time (T12, two phases), lost attempts, old records."""

from __future__ import annotations

from sqlalchemy import Engine

from services.coordinator.loop import log
from shared.accounts.upkeep import forget_ended
from shared.fleet.reports import forget_stopped
from shared.jobs.artifacts import attempt_prefix, job_prefix
from shared.jobs.upkeep import finished_with_orphans, forget_keys, mark_for_purge, marked, purge_done
from shared.settings import Settings
from shared.storage.interface import Storage
from shared.webhooks.outbox import forget_old

DAY = 86_400.0  # seconds after which what a killed writer left half-written is nobody's


class Janitor:
    """T12. Marked results answer 410 at once; their files go later, after the longest download has ended."""

    def __init__(self, settings: Settings, engine: Engine, storage: Storage) -> None:
        self._settings, self._engine, self._storage = settings, engine, storage

    def round(self) -> None:
        """Mark, delete what was marked long enough ago, collect orphans, forget old keys and workers."""
        with self._engine.begin() as connection:
            mark_for_purge(connection)
            forget_keys(connection, self._settings.idempotency_seconds)
            forget_stopped(connection)
            forget_ended(connection)
            forget_old(connection, self._settings.webhook_log_seconds)
        self._purge()
        self._collect_orphans()
        self._storage.sweep(DAY)

    def _purge(self) -> None:
        with self._engine.begin() as connection:
            doomed = marked(connection, self._settings.purge_grace_seconds)
            for job in doomed:
                self._storage.delete(list(self._storage.list(job_prefix(job.owner, job.id))))
            purge_done(connection, doomed)
        if doomed:
            log.info("results purged", jobs=len(doomed))

    def _collect_orphans(self) -> None:
        with self._engine.begin() as connection:
            jobs = finished_with_orphans(connection)
        for job in jobs:
            for attempt in range(1, job.attempt + 1):
                if attempt != job.result_attempt:
                    keys = list(self._storage.list(attempt_prefix(job.owner, job.id, attempt)))
                    self._storage.delete(keys)
