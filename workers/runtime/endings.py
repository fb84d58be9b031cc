"""How an attempt ends. Only this file decides which state a job gets; Postgres has the last word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from sqlalchemy import Connection

from shared.breakers.devices import QuarantineRule, note_fault, note_success
from shared.breakers.models import BreakerRule, trip
from shared.failpoints import failpoint
from shared.jobs.artifacts import ManifestEntry
from shared.jobs.attempts import Attempt, Backoff
from shared.logging import get_logger
from shared.settings import Settings
from workers.runtime.devices import this_place
from workers.runtime.failures import judge
from workers.runtime.heartbeat import Held
from workers.runtime.job_context import StopReason
from workers.runtime.runner import DeviceFault, JobStopped, ModelMissing
from workers.runtime.witness import Witness

log = get_logger(__name__)
Write: TypeAlias = Callable[[Connection], str | None]


@dataclass(frozen=True, slots=True)
class Ending:
    """`write` ends the attempt and tells the job's state after it: None if the job is somebody else's by now.

    After a `poisoned` one this process must not go on.
    """

    held: Held
    write: Write
    poisoned: bool = False


class Endings:
    """What is to be written for an attempt that ran, was stopped, or failed."""

    def __init__(self, settings: Settings, witness: Witness) -> None:
        self._settings, self._ttl, self._witness = settings, settings.result_ttl_seconds, witness
        self._breakers, self._quarantines = BreakerRule.of(settings), QuarantineRule.of(settings)
        self._place = this_place(settings.device)
        self._proved_by: Attempt | None = None

    def published(self, held: Held, output: dict[str, Any], manifest: list[ManifestEntry]) -> Ending:
        """The job has its result, unless it was cancelled or its deadline passed at the last moment."""
        failpoint("W6")
        attempt = held.attempt
        rows = [dict(entry) for entry in manifest]
        seen = self._witness.seen()

        def write(db: Connection) -> str | None:
            if attempt.publish(db, output, rows, self._ttl, seen):
                self._prove(db, attempt)
                return "completed"
            # Cancelled, expired, or somebody else's: `stop` tells which.
            return attempt.stop(db, "expired", _too_late(attempt), self._ttl, self._witness.seen(held.job.id))

        return Ending(held, write)

    def broken_off(self, held: Held, error: JobStopped | Exception) -> Ending:
        """The attempt was stopped, or failed."""
        return self.stopped(held) if isinstance(error, JobStopped) else self.failed(held, error)

    def stopped(self, held: Held) -> Ending:
        """It stopped at a step, as it was told."""
        return Ending(held, self._stop(held))

    def failed(self, held: Held, error: Exception) -> Ending:
        """It may be tried again, or has failed for good. What fails after its deadline has expired."""
        attempt, verdict = held.attempt, judge(error)
        log.warning("attempt failed", code=verdict.code, exc_info=error)
        entry = _error(verdict.code, verdict.message, attempt)
        s, ttl, seen = self._settings, self._ttl, self._witness.seen(held.job.id)
        backoff = Backoff(verdict.failures_allowed(s.max_failures), s.backoff_seconds, s.backoff_cap_seconds)
        write: Write
        if held.job.cancelled and held.job.stop_reason is StopReason.EXPIRED:
            write = self._stop(held)
        elif verdict.retry:
            write = lambda db: self._charged(db, error, held, attempt.retry(db, entry, backoff, ttl, seen))  # noqa: E731
        else:
            write = lambda db: attempt.stop(db, "failed", entry, ttl, seen)  # noqa: E731
        return Ending(held, write, verdict.poisoned)

    def _charged(self, db: Connection, error: Exception, held: Held, state: str | None) -> str | None:
        """A failure may be the model's or the device's, which are set aside after too many."""
        if state is None:
            return None
        if isinstance(error, ModelMissing):
            for model in trip(db, self._breakers):
                log.error("a model is paused", **asdict(model))
        if isinstance(error, DeviceFault):
            worker = held.attempt.worker
            if note_fault(db, self._place, worker, held.attempt.id, self._quarantines):
                log.error("this device is set aside", **self._place._asdict())
        return state

    def _prove(self, db: Connection, attempt: Attempt) -> None:
        """The first job that this process completes tells that the device works."""
        if self._proved_by in (None, attempt):  # again, where the transaction is tried again
            note_success(db, self._place)
            self._proved_by = attempt

    def _stop(self, held: Held) -> Write:
        attempt, ttl, seen = held.attempt, self._ttl, self._witness.seen(held.job.id)
        match held.job.stop_reason:
            case StopReason.DRAINED | StopReason.LOST:  # a lost one is ours still, unless somebody took it
                return lambda db: attempt.drain(db, ttl, seen)
            case StopReason.EXPIRED:
                return lambda db: attempt.stop(db, "expired", _too_late(attempt), ttl, seen)
            case StopReason.CANCELLED:
                return lambda db: attempt.stop(db, "cancelled", None, ttl, seen)
            case _:
                return lambda db: None


def _too_late(attempt: Attempt) -> dict[str, Any]:
    return _error("deadline", "The deadline passed while the job ran.", attempt)


def _error(code: str, message: str, attempt: Attempt) -> dict[str, Any]:
    return {"code": code, "message": message, "attempt": attempt.number, "worker": attempt.worker}
