"""One attempt from claim to verdict, as named steps. Only this file decides which state a job gets."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError
from structlog.contextvars import bind_contextvars, unbind_contextvars

from shared.catalog.loading import LoadInput
from shared.egress.client import Egress
from shared.events import EventPublisher
from shared.jobs.artifacts import ManifestEntry, attempt_prefix
from shared.jobs.attempts import Attempt, Backoff
from shared.jobs.claims import Claim, claim, claim_next
from shared.logging import get_logger
from shared.settings import Settings
from shared.storage.interface import Storage, StorageError
from workers.families import find_operation, registrations
from workers.runtime.failures import judge
from workers.runtime.heartbeat import Heartbeat
from workers.runtime.inputs import fetched
from workers.runtime.job_context import Artifact, JobContext, StopReason
from workers.runtime.logged_inputs import described
from workers.runtime.residency import Residence, Residency
from workers.runtime.runner import InputRejected, JobStopped, OutOfMemory
from workers.runtime.warming import warm

log = get_logger(__name__)
Answer = TypeVar("Answer")

# A worker goes on without a doorbell for at most this long in one Celery task, whose time limit has a margin of 60 s.
CHAIN_SECONDS = 30.0


class Executor:
    """Runs jobs in one child process: claim → fetch inputs → load → run → upload → publish, then the next one."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        storage: Storage,
        events: EventPublisher,
        residency: Residency,
        worker: str,
        on_residency: Callable[[dict[str, Any]], None],
    ) -> None:
        self._settings, self._engine, self._storage, self._events = settings, engine, storage, events
        self._residency, self._on_residency = residency, on_residency
        self._worker = worker
        self._egress = Egress(settings.egress_ports, settings.egress_networks)
        self._heartbeat = Heartbeat(settings, engine)
        self._heartbeat.start()
        self._drain_until: float | None = None
        self._go_on_until = 0.0
        self._parent = os.getppid()

    def drain(self) -> None:
        """The worker stops: finish what fits the grace period, hand back the rest, claim nothing more."""
        self._drain_until = time.monotonic() + self._settings.drain_seconds

    def answer(self, family: str, job_id: UUID) -> int:
        """A doorbell rang: run that job if it is still there, then the family's next ones; how many were run."""
        self._go_on_until, done = time.monotonic() + CHAIN_SECONDS, 0
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            current = claim(connection, job_id, self._worker, self._settings.lease_seconds)
            current = current or self._claim_next(connection, family)
        while current:
            current = self._run(current)
            done += 1
        return done

    def _claim_next(self, connection: Connection, family: str) -> Claim | None:
        """The family's next job, unless this process is to end: drained, orphaned, or near its task's time limit."""
        if self._drain_until is not None or os.getppid() != self._parent or time.monotonic() > self._go_on_until:
            return None
        return claim_next(connection, family, self._worker, self._settings.lease_seconds)

    def _run(self, claimed: Claim) -> Claim | None:
        """One attempt; the next claim, made by the transaction that ended this one."""
        attempt = Attempt(claimed.id, claimed.attempt, self._worker)
        bind_contextvars(job=str(claimed.id), attempt=claimed.attempt)
        self._log_input(claimed)
        job = JobContext(claimed, self._events, drain_until=lambda: self._drain_until)
        self._heartbeat.watch(attempt, job)
        following, poisoned = None, False
        try:
            following = self._publish(attempt, job, *self._work(attempt, job))
        except JobStopped:
            following = self._stopped(attempt, job)
        except Exception as error:
            following, poisoned = self._failed(attempt, job, error)
        finally:
            self._heartbeat.release()
            self._events.changed(claimed.id)
            unbind_contextvars("job", "attempt")
        if poisoned:
            os.kill(os.getpid(), signal.SIGKILL)  # the device's context is broken; a fresh process takes over
        return following

    def _log_input(self, claimed: Claim) -> None:
        """What was asked, as far as the settings let logs say it."""
        if said := described(claimed.input, self._settings.log_inputs):
            log.info("attempt started", operation=claimed.operation, input=said)

    def _work(self, attempt: Attempt, job: JobContext) -> tuple[dict[str, Any], list[ManifestEntry]]:
        operation = find_operation(job.operation)
        request = _validated(operation.input, job.claim.input)
        job.wants_preview = operation.wants_preview(request)
        names = [ref.name for ref in operation.models(request) if ref.kind == "model"]
        registration = registrations()[job.claim.family]
        residence = Residence(job.claim.family, names[0] if names else "default", registration.runner)
        with fetched(self._storage, self._egress, job.claim, operation, request) as job.inputs:
            if job.inputs:
                size = sum(path.stat().st_size for path in job.inputs.values())
                self._patiently(lambda db: attempt.keep(db, size))
            output = self._execute(residence, request, job)
        return output, self._upload(job)

    def _execute(self, residence: Residence, request: BaseModel, job: JobContext) -> dict[str, Any]:
        if not self._residency.is_resident(residence):
            job.phase("loading")
        try:
            if isinstance(request, LoadInput):
                return warm(self._residency, residence)
            with self._residency.using(residence) as runner:
                job.phase("running")
                return runner.run(request, job)
        except OutOfMemory:
            self._residency.evict_others(residence)
            raise
        finally:
            self._on_residency(self._residency.status())

    def _upload(self, job: JobContext) -> list[ManifestEntry]:
        if not job.artifacts:
            return []
        job.phase("uploading")
        prefix = attempt_prefix(job.claim.owner, job.claim.id, job.claim.attempt)
        return [self._store(f"{prefix}{n}", artifact) for n, artifact in enumerate(job.artifacts)]

    def _store(self, stem: str, artifact: Artifact) -> ManifestEntry:
        key = stem + PurePosixPath(artifact.name).suffix
        stored = self._storage.put(key, [artifact.content], artifact.media_type)
        again = hashlib.sha256()
        for chunk in self._storage.read(key):
            again.update(chunk)
        if again.hexdigest() != stored.sha256 or stored.size != len(artifact.content):
            raise StorageError(f"{key} was not read back as it was written")
        return {
            "name": artifact.name,
            "key": key,
            "media_type": artifact.media_type,
            "size": stored.size,
            "sha256": stored.sha256,
            "crc32": stored.crc32,
        }

    def _publish(
        self, attempt: Attempt, job: JobContext, output: dict[str, Any], manifest: list[ManifestEntry]
    ) -> Claim | None:
        ttl = self._settings.result_ttl_seconds
        rows = [dict(entry) for entry in manifest]
        done, following = self._end(job, lambda db: attempt.publish(db, output, rows, ttl))
        if not done:
            # Cancelled at the last moment, or somebody else's by now: `stop` tells which.
            job.stop(StopReason.CANCELLED)
            return self._stopped(attempt, job)
        return following

    def _stopped(self, attempt: Attempt, job: JobContext) -> Claim | None:
        ttl = self._settings.result_ttl_seconds
        state, following = None, None
        if job.stop_reason is StopReason.DRAINED:
            state, following = self._end(job, lambda db: attempt.drain(db, ttl))
        elif job.stop_reason is StopReason.EXPIRED:
            error = _error("deadline", "The deadline passed while the job ran.", attempt)
            state, following = self._end(job, lambda db: attempt.stop(db, "expired", error, ttl))
        elif job.stop_reason is StopReason.CANCELLED:
            state, following = self._end(job, lambda db: attempt.stop(db, "cancelled", None, ttl))
        log.info("job stopped", reason=str(job.stop_reason), state=state)
        self._forget(job)
        return following

    def _failed(self, attempt: Attempt, job: JobContext, error: Exception) -> tuple[Claim | None, bool]:
        """The next claim, and whether this process must not go on."""
        verdict = judge(error)
        log.warning("attempt failed", code=verdict.code, exc_info=error)
        entry = _error(verdict.code, verdict.message, attempt)
        s = self._settings
        allowed = verdict.failures_allowed(s.max_failures)
        backoff = Backoff(allowed, s.backoff_seconds, s.backoff_cap_seconds)
        if verdict.poisoned:
            self._go_on_until = 0.0  # claim nothing more
        if verdict.retry:
            _, following = self._end(job, lambda db: attempt.retry(db, entry, backoff, s.result_ttl_seconds))
        else:
            _, following = self._end(job, lambda db: attempt.stop(db, "failed", entry, s.result_ttl_seconds))
        self._forget(job)
        return following, verdict.poisoned

    def _forget(self, job: JobContext) -> None:
        """Remove what this attempt uploaded: it is nobody's result."""
        prefix = attempt_prefix(job.claim.owner, job.claim.id, job.claim.attempt)
        try:
            self._storage.delete(list(self._storage.list(prefix)))
        except StorageError as error:
            log.warning("orphaned files stay until the janitor comes", error=str(error))

    def _end(self, job: JobContext, statement: Callable[[Connection], Answer]) -> tuple[Answer, Claim | None]:
        """Run the statement that ends the attempt and claim the next job with it: one flush to disk for both."""
        return self._patiently(lambda db: (statement(db), self._claim_next(db, job.claim.family)))

    def _patiently(self, work: Callable[[Connection], Answer]) -> Answer:
        """One transaction. While Postgres is away it is tried again for a lease; then somebody else has the job."""
        until = time.monotonic() + self._settings.lease_seconds
        while True:
            try:
                with self._engine.begin() as connection:
                    return work(connection)
            except OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)


def _validated(schema: type[BaseModel], value: dict[str, Any]) -> BaseModel:
    try:
        return schema.model_validate(value)
    except ValueError as error:  # accepted by an older gateway, refused by this worker's schema
        raise InputRejected(f"This worker does not accept the input: {error}") from error


def _error(code: str, message: str, attempt: Attempt) -> dict[str, Any]:
    return {"code": code, "message": message, "attempt": attempt.number, "worker": attempt.worker}
