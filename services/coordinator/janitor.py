"""Removes what nobody may use any more: results past their time (T12, two phases), lost attempts, uploads, old rows."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from sqlalchemy import Connection, Engine

from services.coordinator.loop import log
from shared.accounts.upkeep import forget_ended
from shared.fleet.reports import forget_stopped
from shared.jobs.artifacts import attempt_prefix, job_prefix
from shared.jobs.upkeep import finished_with_orphans, forget_keys, mark_for_purge, marked, purge_done
from shared.settings import Settings
from shared.storage.interface import Storage, StorageError
from shared.uploads.keys import upload_prefix
from shared.uploads.upkeep import doomed_uploads, expire_uploads, remove_uploads
from shared.usage.upkeep import forget_usage
from shared.webhooks.outbox import forget_old

DAY = 86_400.0  # seconds after which what a killed writer left half-written is nobody's
MOST_FAILURES = 100  # files that cannot be removed in one round; then it is the store that fails


class Janitor:
    """T12. Marked results answer 410 at once; their files go later, after the longest download has ended.

    A round does all that is due, in small transactions: what ends in a minute may be more than one should hold.
    """

    def __init__(self, settings: Settings, engine: Engine, storage: Storage) -> None:
        self._settings, self._engine, self._storage = settings, engine, storage
        self._failures = 0

    def round(self) -> None:
        """Mark, delete what was marked long enough ago, collect orphans, forget old keys and workers."""
        self._failures = 0
        with self._engine.begin() as connection:
            forget_keys(connection, self._settings.idempotency_seconds)
            forget_stopped(connection)
            forget_ended(connection)
            forget_usage(connection, self._settings.usage_ttl_seconds)
        self._while_some(mark_for_purge)
        self._while_some(expire_uploads)
        self._while_some(lambda connection: forget_old(connection, self._settings.webhook_log_seconds))
        kept: list[UUID] = []
        self._while_some(lambda connection: self._purge(connection, kept))
        self._while_some(lambda connection: self._purge_uploads(connection, kept))
        self._collect_orphans()
        self._storage.sweep(DAY)

    def _while_some(self, work: Callable[[Connection], int]) -> None:
        """Again, each time in a transaction of its own, until there is nothing left to do."""
        left = 1
        while left:
            with self._engine.begin() as connection:
                left = work(connection)

    def _purge(self, connection: Connection, kept: list[UUID]) -> int:
        """Some results; those whose files cannot be removed are `kept` until the next round."""
        doomed = marked(connection, self._settings.purge_grace_seconds, kept)
        gone = [job for job in doomed if self._removed(job_prefix(job.owner, job.id))]
        kept += [job.id for job in doomed if job not in gone]
        purge_done(connection, gone)
        if gone:
            log.info("results purged", jobs=len(gone))
        return len(doomed)

    def _purge_uploads(self, connection: Connection, kept: list[UUID]) -> int:
        doomed = doomed_uploads(connection, self._settings.purge_grace_seconds, kept)
        gone = [upload for upload in doomed if self._removed(upload_prefix(upload.owner, upload.id))]
        kept += [upload.id for upload in doomed if upload not in gone]
        remove_uploads(connection, gone)
        if gone:
            log.info("uploads purged", uploads=len(gone))
        return len(doomed)

    def _collect_orphans(self) -> None:
        with self._engine.begin() as connection:
            jobs = finished_with_orphans(connection)
        for job in jobs:
            for attempt in range(1, job.attempt + 1):
                if attempt != job.result_attempt:
                    self._removed(attempt_prefix(job.owner, job.id, attempt))

    def _removed(self, prefix: str) -> bool:
        """Whether nothing lies there any more. A file that cannot be removed keeps no other one."""
        try:
            self._storage.delete(list(self._storage.list(prefix)))
        except StorageError as error:
            self._failures += 1
            if self._failures == MOST_FAILURES:
                raise
            log.warning("files could not be removed", prefix=prefix, error=str(error))
            return False
        return True
