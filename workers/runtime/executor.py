"""Attempts from claim to verdict, as named steps: one job, or a batch in which each job keeps an end of its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from math import inf
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import psycopg2
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError
from structlog.contextvars import bound_contextvars

from shared.database import is_cut_off
from shared.events import EventPublisher
from shared.failpoints import failpoint
from shared.jobs.artifacts import ManifestEntry
from shared.jobs.attempts import Attempt, let_go
from shared.jobs.claims import Claim
from shared.logging import get_logger
from shared.settings import Settings
from shared.storage.interface import Storage
from workers.runtime.endings import Ending, Endings
from workers.runtime.heartbeat import Heartbeat, Held
from workers.runtime.intake import Intake, has_batches
from workers.runtime.job_context import JobContext
from workers.runtime.last_words import LastWords
from workers.runtime.residency import Residency
from workers.runtime.runner import DeviceFault, JobStopped, ModelMissing, RunnerError
from workers.runtime.running import Output, Prepared, Running
from workers.runtime.store_trust import StoreTrust
from workers.runtime.uploading import forget, upload
from workers.runtime.witness import Witness

log = get_logger(__name__)
UNHEARD = (OperationalError, psycopg2.OperationalError)  # the driver's own when a connection is given back
Answer = TypeVar("Answer")
Result: TypeAlias = tuple[Output, list[ManifestEntry]]  # the manifest lists files that are in the storage


class Executor:
    """Runs jobs in one child process: claim → fetch inputs → load → run → upload → publish, then the next ones."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        storage: Storage,
        events: EventPublisher,
        residency: Residency,
        worker: str,
        on_residency: Callable[[dict[str, Any]], None],
        words: LastWords | None = None,
    ) -> None:
        self._settings, self._engine, self._storage, self._events = settings, engine, storage, events
        self._worker, self._store = worker, StoreTrust(storage)
        self._intake = Intake(settings, worker)
        self._running = Running(settings, storage, residency, on_residency)
        self._witness = Witness(residency.device, words)
        self._endings = Endings(settings, self._witness)
        self._unsure = False  # whether a commit may have claimed what nobody here knows of
        self._heartbeat = Heartbeat(settings, engine)
        self._heartbeat.start()

    def drain(self) -> None:
        """The worker stops: finish what fits the grace period, hand back the rest, claim nothing more.

        Told again, hand back all of it.
        """
        self._intake.drain()

    def close(self) -> None:
        """End the thread that keeps the leases."""
        self._heartbeat.close()

    def answer(self, family: str, job_id: UUID) -> int:
        """A doorbell rang: run that job if it is still there, then the family's next ones; how many were run."""
        if not self._store.works():
            return 0  # the bell rings again
        try:
            with self._sure(), self._claiming(family) as connection:
                self._let_go(connection)
                current = self._intake.answer(connection, family, job_id)
        except UNHEARD:  # a job may be ours, or not
            current = self._patiently(lambda db: self._intake.answer(db, family, job_id))
        done = 0
        while current:
            done += len(current)
            current = self._run(current)
        return done

    def _claiming(self, family: str) -> AbstractContextManager[Connection]:
        """A batch is claimed in one transaction; a single statement needs none around it."""
        if has_batches(family):
            return self._engine.begin()
        return self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def _run(self, claims: list[Claim]) -> list[Claim]:
        """One attempt, or those of a batch; the next claims, made by the transaction that ended the last of them."""
        # In one order everywhere: transactions that move several owners' jobs must not wait for each other crosswise.
        batch = [self._hold(claimed) for claimed in sorted(claims, key=lambda claimed: (claimed.owner, claimed.id))]
        self._witness.begin()
        self._heartbeat.watch(batch)
        try:
            return self._run_one(batch[0]) if len(batch) == 1 else self._run_batch(batch)
        finally:
            self._heartbeat.release(batch)

    def _hold(self, claimed: Claim) -> Held:
        attempt = Attempt(claimed.id, claimed.attempt, self._worker)
        return Held(attempt, JobContext(claimed, self._events, drain_until=lambda: self._intake.drain_until))

    def _run_one(self, held: Held) -> list[Claim]:
        with _named(held):
            return self._conclude([self._ending(held, lambda: self._work(held))])

    def _run_batch(self, batch: list[Held]) -> list[Claim]:
        """Those that cannot run end first; the others run together."""
        with ExitStack() as files:
            ready: dict[Held, Prepared] = {}
            unfit = []
            for held in batch:
                with _named(held):
                    try:
                        ready[held] = self._prepare(held, files)
                    except (JobStopped, Exception) as error:
                        self._store.heard(error)
                        unfit.append(self._endings.broken_off(held, error))
            if not ready:
                return self._conclude(unfit)
            if unfit:
                self._conclude(unfit, go_on=False)
            return self._run_together(ready) if len(ready) > 1 else self._run_by_one(ready)

    def _run_together(self, ready: dict[Held, Prepared]) -> list[Claim]:
        jobs = [held.job.id for held in ready]
        try:
            with bound_contextvars(batch=jobs):
                entries = self._running.run_together(list(ready.values()))
        except (JobStopped, DeviceFault, ModelMissing) as error:  # each of them would meet it again
            return self._conclude([self._endings.broken_off(held, error) for held in ready])
        except Exception as error:
            log.warning("a batch failed, its jobs run one by one", jobs=jobs, exc_info=error)
            return self._run_by_one(ready)
        endings = []
        for held, entry in zip(ready, entries, strict=True):
            with _named(held):
                endings.append(self._ending(held, partial(self._part, held, entry)))
        return self._conclude(endings)

    def _run_by_one(self, ready: dict[Held, Prepared]) -> list[Claim]:
        """Each job of a batch alone, in the same attempt: one bad request must not fail its neighbours."""
        for held in ready:
            held.job.start_over()
        left, following = len(ready), []
        for held, prepared in ready.items():
            left -= 1
            with _named(held):
                ending = self._ending(held, partial(self._again, held, prepared))
                following = self._conclude([ending], go_on=not left)
        return following

    def _work(self, held: Held) -> Result:
        with ExitStack() as files:
            output = self._running.run(self._prepare(held, files))
        return output, upload(self._storage, held.job)

    def _again(self, held: Held, prepared: Prepared) -> Result:
        """One job of a batch that came to nothing."""
        return self._running.run(prepared), upload(self._storage, held.job)

    def _part(self, held: Held, entry: Output | RunnerError) -> Result:
        """What a batch came to for one of its jobs."""
        held.job.leave_batch()
        held.job.check()
        if isinstance(entry, RunnerError):
            raise entry
        return entry, upload(self._storage, held.job)

    def _prepare(self, held: Held, files: ExitStack) -> Prepared:
        failpoint("W2")
        keep = held.attempt.keep
        return self._running.prepare(held.job, files, lambda size: self._patiently(lambda db: keep(db, size)))

    def _ending(self, held: Held, work: Callable[[], Result]) -> Ending:
        """How the attempt ends by this work, whatever comes of it."""
        try:
            return self._endings.published(held, *work())
        except (JobStopped, Exception) as error:
            self._store.heard(error)
            return self._endings.broken_off(held, error)

    def _conclude(self, endings: list[Ending], *, go_on: bool = True) -> list[Claim]:
        """Write how these attempts end, each alone if Postgres refuses one of them; the next claims if we `go_on`."""
        go_on = go_on and not any(ending.poisoned for ending in endings) and not self._store.is_doubted
        try:
            return self._write(endings, go_on)
        except Exception as error:
            if len(endings) == 1:
                return self._write([self._endings.failed(endings[0].held, error)], go_on)
            if isinstance(error, OperationalError):
                raise  # for a whole lease: others have the jobs by now
        following: list[Claim] = []
        for ending in endings:
            following = self._conclude([ending], go_on=go_on and ending is endings[-1])
        return following

    def _write(self, endings: list[Ending], go_on: bool) -> list[Claim]:
        """The transaction that ends the attempts and claims what comes next: one flush to disk for all."""
        family = endings[0].held.job.claim.family

        def work(db: Connection) -> tuple[list[str | None], list[Claim]]:
            # The commit of an earlier try may have happened although its answer was lost.
            states = [ending.write(db) or ending.held.attempt.published(db) for ending in endings]
            return states, self._intake.next(db, family) if go_on else []

        states, following = self._patiently(work)
        failpoint("W7")
        self._heartbeat.release([ending.held for ending in endings])
        self._events.changed(*(ending.held.job.uuid for ending in endings))
        for ending, state in zip(endings, states, strict=True):
            job = ending.held.job
            if state != "completed":
                reason = str(job.stop_reason) if job.stop_reason else None
                log.info("attempt without a result", job=job.id, stopped=reason, state=state)
                forget(self._storage, job.claim)
        if any(ending.poisoned for ending in endings):
            os.kill(os.getpid(), signal.SIGKILL)  # the device's context is broken; a fresh process takes over
        return following

    def _patiently(self, work: Callable[[Connection], Answer]) -> Answer:
        """One transaction, tried again for a lease while Postgres refuses it; then somebody else has the job.

        While Postgres is away nobody can take it, and there is nothing else to do, unless the worker is to stop.
        """
        until = time.monotonic() + self._settings.lease_seconds
        while True:
            try:
                with self._sure(), self._engine.begin() as connection:
                    self._let_go(connection)
                    return work(connection)
            except OperationalError as error:
                if time.monotonic() > ((self._intake.drain_until or inf) if is_cut_off(error) else until):
                    raise
                time.sleep(0.5)

    @contextmanager
    def _sure(self) -> Iterator[None]:
        """Around a transaction: where its answer does not come, nobody knows what it did."""
        try:
            yield
        except UNHEARD:
            self._unsure = True
            raise
        self._unsure = False

    def _let_go(self, db: Connection) -> None:
        """Hand back what was claimed and not heard of: nobody would run it, nor keep its lease."""
        if self._unsure and let_go(db, self._worker, self._heartbeat.held(), self._settings.result_ttl_seconds):
            log.warning("jobs were claimed by a commit whose answer was lost, and are handed back")


def _named(held: Held) -> AbstractContextManager[None]:
    """Log lines name the job and the attempt."""
    return bound_contextvars(job=held.job.id, attempt=held.attempt.number)
