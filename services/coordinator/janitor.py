"""Removes what nobody may use any more: results past their time (T12, two phases), lost attempts, uploads,
files of requests that became no job, old rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Connection, Engine

from services.coordinator.loop import log
from shared.accounts.upkeep import forget_ended
from shared.fleet.reports import forget_stopped
from shared.jobs.arriving import forget_left_files, left_files
from shared.jobs.artifacts import attempt_prefix, job_prefix
from shared.jobs.upkeep import finished_with_orphans, forget_keys, mark_for_purge, marked, purge_done
from shared.settings import Settings
from shared.storage.interface import Storage, StorageError
from shared.uploads.keys import upload_prefix
from shared.uploads.upkeep import doomed_uploads, expire_uploads, remove_uploads
from shared.usage.upkeep import forget_usage
from shared.webhooks.outbox import forget_old

DAY = 86_400.0  # seconds after which what a killed gateway or writer left is nobody's
MOST_FAILURES = 100  # files that cannot be removed in one round; then it is the store that fails


class Doomed(Protocol):
    """What owns files that go now."""

    @property
    def id(self) -> UUID: ...
    @property
    def owner(self) -> str: ...


D = TypeVar("D", bound=Doomed)


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
        grace = self._settings.purge_grace_seconds
        self._clear("results", lambda db, but: marked(db, grace, but), job_prefix, purge_done)
        self._clear("uploads", lambda db, but: doomed_uploads(db, grace, but), upload_prefix, remove_uploads)
        self._clear("files without a job", lambda db, but: left_files(db, DAY, but), job_prefix, forget_left_files)
        self._collect_orphans()
        self._storage.sweep(DAY)

    def _while_some(self, work: Callable[[Connection], int]) -> None:
        """Again, each time in a transaction of its own, until there is nothing left to do."""
        left = 1
        while left:
            with self._engine.begin() as connection:
                left = work(connection)

    def _clear(
        self,
        what: str,
        some: Callable[[Connection, Collection[UUID]], list[D]],
        prefix: Callable[[str, UUID], str],
        end: Callable[[Connection, list[D]], None],
    ) -> None:
        """Remove all files of what is found, then `end` it; what cannot be removed is kept until the next round."""
        kept: list[UUID] = []

        def work(connection: Connection) -> int:
            doomed = some(connection, kept)
            gone = [one for one in doomed if self._removed(prefix(one.owner, one.id))]
            kept.extend(one.id for one in doomed if one not in gone)
            end(connection, gone)
            if gone:
                log.info(f"{what} purged", count=len(gone))
            return len(doomed)

        self._while_some(work)

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
