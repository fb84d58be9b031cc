"""What the coordinator does to jobs that nobody holds: reap (T9), expire (T11), purge (T12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from shared.jobs.states import NEVER_RAN

# A lost worker counts as a crash and as a failure, unless it ran a batch: nobody knows which of its jobs was at fault,
# so none is charged, and each runs alone from then on. The error keeps who held the attempt. Whose worker was lost for
# the first time waits for nothing: it was hardly the job's doing.
REAP = """
UPDATE jobs SET state = v.next, crashes = crashes + v.charged, failures = failures + v.charged, batch_key = NULL,
    run_after = now() + make_interval(secs => CASE WHEN crashes = 0 THEN 0 ELSE :pause END),
    finished_at = CASE WHEN v.next = 'queued' THEN NULL ELSE now() END,
    purge_after = CASE WHEN v.next = 'queued' THEN NULL ELSE now() + make_interval(secs => :ttl) END,
    dispatched_at = NULL, lease_owner = NULL, lease_expires_at = NULL, progress = NULL,
    error = v.error, errors = errors || jsonb_build_array(v.error)
FROM (
    SELECT id AS job,
        CASE WHEN cancel_requested_at IS NOT NULL THEN 'cancelled' WHEN deadline_at < now() THEN 'expired'
             WHEN batch_size = 1 AND (crashes + 1 >= :max_crashes OR failures + 1 >= :max_failures) THEN 'failed'
             ELSE 'queued' END AS next,
        (batch_size = 1)::int AS charged,
        jsonb_build_object('code', 'worker_lost', 'message', 'The worker was lost while it ran this job.',
            'attempt', attempt, 'worker', lease_owner, 'at', now()) AS error
    FROM jobs WHERE state = 'running' AND {which} LIMIT 100 FOR UPDATE SKIP LOCKED) v
WHERE id = v.job
RETURNING id, state
"""

# After a restart of Postgres every lease looks expired: wait for one lease, so that living workers can prolong theirs.
LEASE_OVER = """
(lease_expires_at < now()
    OR attempt_started_at < now() - make_interval(secs => CAST(CAST(:max_runtimes AS jsonb) ->> family AS float8)))
AND pg_postmaster_start_time() < now() - make_interval(secs => :lease)
"""
REAP_EXPIRED = text(REAP.format(which=LEASE_OVER)).bindparams(bindparam("max_runtimes", type_=JSONB))
REAP_WORKER = text(REAP.format(which="lease_owner = :worker"))

EXPIRE = text(f"""
UPDATE jobs SET state = 'expired', finished_at = now(), purge_after = now() + make_interval(secs => :ttl),
    error = {NEVER_RAN}
WHERE id IN (SELECT id FROM jobs WHERE state = 'queued' AND deadline_at < now() LIMIT 500 FOR UPDATE SKIP LOCKED)
RETURNING id
""")

MARK = text("""
UPDATE jobs SET purged = 'marked', purged_at = now()
WHERE id IN (SELECT id FROM jobs WHERE purged IS NULL AND purge_after < now() AND finished_at IS NOT NULL
             LIMIT 500 FOR UPDATE SKIP LOCKED)
RETURNING id
""")

MARKED = text("""
SELECT id, owner, attempt, deleted_at IS NOT NULL AS deleted FROM jobs
WHERE purged = 'marked' AND purged_at < now() - make_interval(secs => :grace) LIMIT 100 FOR UPDATE SKIP LOCKED
""")

PURGED = text("UPDATE jobs SET purged = 'done', stored_bytes = 0 WHERE id = ANY(:ids)")
REMOVE = text("DELETE FROM jobs WHERE id = ANY(:ids)")
FORGET_KEYS = text("DELETE FROM idempotency_keys WHERE created_at < now() - make_interval(secs => :age)")

# Attempts that lost: their job ended over an hour ago, and they are not its result.
ORPHANS = text("""
SELECT id, owner, attempt, result_attempt FROM jobs
WHERE finished_at < now() - interval '1 hour' AND finished_at > now() - interval '3 hours' AND attempt > 1
""")


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may go wrong: crashes and failures a job, the pause after a second crash (s), the results' life (s)."""

    max_crashes: int
    max_failures: int
    pause: float
    ttl: float

    def values(self) -> dict[str, Any]:
        return {
            "max_crashes": self.max_crashes,
            "max_failures": self.max_failures,
            "pause": self.pause,
            "ttl": self.ttl,
        }


@dataclass(frozen=True, slots=True)
class Moved:
    """A job that upkeep moved, and its new state."""

    id: UUID
    state: str


def reap_expired(connection: Connection, budget: Budget, lease: float, max_runtimes: dict[str, float]) -> list[Moved]:
    """T9: move on the jobs whose lease ran out, or that run longer than their family allows (seconds a family)."""
    values = budget.values() | {"lease": lease, "max_runtimes": max_runtimes}
    return [Moved(row.id, row.state) for row in connection.execute(REAP_EXPIRED, values)]


def reap_worker(connection: Connection, budget: Budget, worker: str) -> list[Moved]:
    """T9 for one worker whose parent saw it die: no need to wait for the lease."""
    return [Moved(row.id, row.state) for row in connection.execute(REAP_WORKER, budget.values() | {"worker": worker})]


def expire(connection: Connection, ttl: float) -> list[Moved]:
    """T11: end queued jobs whose deadline passed."""
    return [Moved(row.id, "expired") for row in connection.execute(EXPIRE, {"ttl": ttl})]


@dataclass(frozen=True, slots=True)
class Doomed:
    """A job whose files go now; with `deleted` its row goes too."""

    id: UUID
    owner: str
    attempt: int
    deleted: bool


def mark_for_purge(connection: Connection) -> int:
    """T12, first phase: from now on `/results` answers 410."""
    return connection.execute(MARK).rowcount


def marked(connection: Connection, grace: float) -> list[Doomed]:
    """T12, second phase: jobs marked at least `grace` seconds ago (longer than any download). Locks the rows."""
    return [Doomed(**row._mapping) for row in connection.execute(MARKED, {"grace": grace})]


def purge_done(connection: Connection, jobs: list[Doomed]) -> None:
    """Their files are gone; rows that the owner deleted go as well."""
    connection.execute(PURGED, {"ids": [job.id for job in jobs]})
    connection.execute(REMOVE, {"ids": [job.id for job in jobs if job.deleted]})


def forget_keys(connection: Connection, age: float) -> int:
    """Drop idempotency keys older than `age` seconds."""
    return connection.execute(FORGET_KEYS, {"age": age}).rowcount


@dataclass(frozen=True, slots=True)
class Finished:
    """A job that took several attempts and ended a while ago."""

    id: UUID
    owner: str
    attempt: int
    result_attempt: int | None


def finished_with_orphans(connection: Connection) -> list[Finished]:
    """Jobs that ended one to three hours ago after more than one attempt."""
    return [Finished(**row._mapping) for row in connection.execute(ORPHANS)]
