"""What the holder of an attempt may write (T4 to T8). Every statement names the attempt: a zombie changes nothing.

Each that ends the attempt leaves its record (`records.py`): what the row knows, and what its worker has `seen`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from shared.jobs.records import NOTHING, Seen, recorded

MINE = "id = :id AND state = 'running' AND attempt = :attempt"
SEEN = bindparam("seen", type_=JSONB)
RELEASED = "lease_owner = NULL, lease_expires_at = NULL, dispatched_at = NULL"

BEAT = text(f"""
UPDATE jobs SET lease_expires_at = now() + make_interval(secs => :lease), progress = coalesce(:progress, progress)
WHERE {MINE} AND lease_owner = :worker
RETURNING cancel_requested_at IS NOT NULL AS cancelled, coalesce(deadline_at <= now(), false) AS expired
""").bindparams(bindparam("progress", type_=JSONB(none_as_null=True)))

KEEP = text(f"UPDATE jobs SET stored_bytes = :bytes WHERE {MINE} AND stored_bytes < :bytes")

# By the clock, not by the transaction's beginning: who was told at the deadline that the job timed out was told right.
PUBLISH = text(f"""
UPDATE jobs SET state = 'completed', result_attempt = attempt, output = :output, manifest = :manifest,
    stored_bytes = stored_bytes + :bytes,
    finished_at = now(), purge_after = now() + make_interval(secs => :ttl), progress = NULL, {RELEASED},
    {recorded("'completed'")}
WHERE {MINE} AND cancel_requested_at IS NULL AND (deadline_at IS NULL OR deadline_at > clock_timestamp())
RETURNING id
""").bindparams(bindparam("output", type_=JSONB), bindparam("manifest", type_=JSONB), SEEN)

PUBLISHED = text("SELECT state FROM jobs WHERE id = :id AND result_attempt = :attempt")

STOPPED = "CASE WHEN cancel_requested_at IS NOT NULL THEN 'cancelled' ELSE :state END"
WHY = "CASE WHEN cancel_requested_at IS NULL THEN CAST(:error AS jsonb) END"
STOP = text(f"""
UPDATE jobs SET state = {STOPPED}, error = {WHY},
    errors = CASE WHEN cancel_requested_at IS NOT NULL THEN errors
        ELSE errors || jsonb_build_array(CAST(:error AS jsonb)) END,
    finished_at = now(), purge_after = now() + make_interval(secs => :ttl), {RELEASED},
    {recorded(STOPPED, error=WHY)}
WHERE {MINE}
RETURNING state
""").bindparams(bindparam("error", type_=JSONB(none_as_null=True)), SEEN)

# The new state is worked out once and used three times. A job that failed runs alone from then on: it may have spoilt
# a batch.
RETRY = text(f"""
UPDATE jobs SET failures = failures + 1, state = v.next, error = :error, batch_key = NULL,
    errors = errors || jsonb_build_array(CAST(:error AS jsonb)),
    finished_at = CASE WHEN v.next = 'queued' THEN NULL ELSE now() END,
    purge_after = CASE WHEN v.next = 'queued' THEN NULL ELSE now() + make_interval(secs => :ttl) END,
    run_after = now() + make_interval(secs => least(:cap, :base * power(4, failures)) * (0.8 + 0.4 * random())),
    progress = NULL, {RELEASED},
    {recorded("CASE v.next WHEN 'queued' THEN 'retried' ELSE v.next END", error="CAST(:error AS jsonb)")}
FROM (SELECT id AS job, CASE WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
        WHEN failures + 1 >= :max_failures THEN 'failed' ELSE 'queued' END AS next
      FROM jobs WHERE {MINE} FOR UPDATE) v
WHERE id = v.job
RETURNING state
""").bindparams(bindparam("error", type_=JSONB), SEEN)

HAND_BACK = f"""
UPDATE jobs SET drains = drains + 1, run_after = now(), progress = NULL,
    state = CASE WHEN cancel_requested_at IS NOT NULL THEN 'cancelled' ELSE 'queued' END,
    finished_at = CASE WHEN cancel_requested_at IS NOT NULL THEN now() END,
    purge_after = CASE WHEN cancel_requested_at IS NOT NULL THEN now() + make_interval(secs => :ttl) END, {RELEASED},
    {recorded("CASE WHEN cancel_requested_at IS NOT NULL THEN 'cancelled' ELSE 'drained' END")}
WHERE {{which}}
RETURNING state
"""
DRAIN = text(HAND_BACK.format(which=MINE)).bindparams(SEEN)
LET_GO = text(
    HAND_BACK.format(which="state = 'running' AND lease_owner = :worker AND id <> ALL(CAST(:held AS uuid[]))")
).bindparams(SEEN)


class Pulse(StrEnum):
    """What a heartbeat hears back."""

    GO_ON = "go on"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Backoff:
    """A job may fail `max_failures` times; before try n + 1 it waits base · 4^n seconds (± 20 %), at most `cap`."""

    max_failures: int
    base: float
    cap: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """The fencing token: this worker's attempt of this job."""

    id: UUID
    number: int
    worker: str

    def _keys(self) -> dict[str, Any]:
        return {"id": self.id, "attempt": self.number}

    def _ending(self, ttl: float, seen: Seen) -> dict[str, Any]:
        return self._keys() | {"ttl": ttl, "seen": seen.values()}

    def beat(self, connection: Connection, lease: float, progress: dict[str, Any] | None) -> Pulse:
        """T4: prolong the lease and note the progress; says whether to go on."""
        values = self._keys() | {"worker": self.worker, "lease": lease, "progress": progress}
        row = connection.execute(BEAT, values).one_or_none()
        if row is None:
            return Pulse.LOST
        if row.cancelled:
            return Pulse.CANCELLED
        return Pulse.EXPIRED if row.expired else Pulse.GO_ON

    def keep(self, connection: Connection, size: int) -> None:
        """The request's files take so many bytes of the storage, now that those at addresses were fetched into it."""
        connection.execute(KEEP, self._keys() | {"bytes": size})

    def publish(
        self, connection: Connection, output: Any, manifest: list[dict[str, Any]], ttl: float, seen: Seen = NOTHING
    ) -> bool:
        """T5: make this attempt's files the result; False if the job was cancelled, expired or is no longer ours."""
        size = sum(entry["size"] for entry in manifest)
        values = self._ending(ttl, seen) | {"output": output, "manifest": manifest, "bytes": size}
        return connection.execute(PUBLISH, values).one_or_none() is not None

    def published(self, connection: Connection) -> str | None:
        """The job's state if its result is this attempt's already: a try did it whose answer was lost."""
        return connection.execute(PUBLISHED, self._keys()).scalar_one_or_none()

    def stop(
        self, connection: Connection, state: str, error: dict[str, Any] | None, ttl: float, seen: Seen = NOTHING
    ) -> str | None:
        """T6: end the job for good (a wish to cancel wins); the state it got, None if it is no longer ours."""
        values = self._ending(ttl, seen) | {"state": state, "error": error}
        return connection.execute(STOP, values).scalar_one_or_none()

    def retry(
        self, connection: Connection, error: dict[str, Any], backoff: Backoff, ttl: float, seen: Seen = NOTHING
    ) -> str | None:
        """T7: count a failure and queue the job again after the backoff, or fail it for good."""
        limits = {"max_failures": backoff.max_failures, "base": backoff.base, "cap": backoff.cap}
        values = self._ending(ttl, seen) | limits | {"error": error}
        return connection.execute(RETRY, values).scalar_one_or_none()

    def drain(self, connection: Connection, ttl: float, seen: Seen = NOTHING) -> str | None:
        """T8: hand the job back because this worker stops or lost sight of Postgres; counts as no failure."""
        return connection.execute(DRAIN, self._ending(ttl, seen)).scalar_one_or_none()


def let_go(connection: Connection, worker: str, held: Collection[UUID], ttl: float) -> int:
    """Hand back what this worker has and does not hold: a commit that claimed it had its answer lost. How many."""
    values = {"worker": worker, "held": list(held), "ttl": ttl, "seen": NOTHING.values()}
    return connection.execute(LET_GO, values).rowcount
