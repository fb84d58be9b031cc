"""What the coordinator does to jobs that nobody holds: reap (T9), expire (T11), purge (T12)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Self
from uuid import UUID

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from shared.jobs.records import NOTHING, Seen, recorded
from shared.jobs.states import NEVER_RAN
from shared.settings import Settings

# On how many different workers the job was running when they were lost, those times that counted, with this one. A
# worker's name is its host and its parent's pid; what follows is the child's.
CRASHED_WORKERS = """
(SELECT count(DISTINCT split_part(entry ->> 'worker', '/', 1))
 FROM jsonb_array_elements(attempts || jsonb_build_object('worker', lease_owner, 'counted', true)) entry
 WHERE (entry ->> 'counted')::boolean)
"""

# The worker may be silent for ever: what it said last of its device is taken, unless it never found one.
DEVICE = "(SELECT nullif(device, 'auto') FROM workers WHERE name = split_part(lease_owner, '/', 1))"

# A lost worker counts as a crash and as a failure, unless it ran a batch: nobody knows which of its jobs was at fault,
# so none is charged, and each runs alone from then on. Nor does it count for a cancelled job, for which its parent may
# have ended it: that says nothing of the job's model. The error keeps who held the attempt. A job that was lost with
# one worker may have met a bad machine, and waits for nothing; one that was lost with several is at fault itself.
LOST = recorded("'lost'", error="v.error", more=f", 'counted', v.charged = 1, 'device', {DEVICE}")
REAP = f"""
UPDATE jobs SET state = v.next, crashes = crashes + v.charged, failures = failures + v.charged, batch_key = NULL,
    run_after = now() + make_interval(secs => CASE WHEN crashes = 0 THEN 0 ELSE :pause END),
    finished_at = CASE WHEN v.next = 'queued' THEN NULL ELSE now() END,
    purge_after = CASE WHEN v.next = 'queued' THEN NULL ELSE now() + make_interval(secs => :ttl) END,
    dispatched_at = NULL, lease_owner = NULL, lease_expires_at = NULL, progress = NULL,
    error = v.error, errors = errors || jsonb_build_array(v.error), {LOST}
FROM (
    SELECT id AS job,
        CASE WHEN cancel_requested_at IS NOT NULL THEN 'cancelled' WHEN deadline_at < now() THEN 'expired'
             WHEN batch_size = 1 AND :charge AND (crashes + 1 >= :max_crashes OR failures + 1 >= :max_failures
                 OR {CRASHED_WORKERS} >= :poison_workers) THEN 'failed'
             ELSE 'queued' END AS next,
        (batch_size = 1 AND :charge AND cancel_requested_at IS NULL)::int AS charged,
        jsonb_build_object('code', 'worker_lost', 'message', 'The worker was lost while it ran this job.',
            'attempt', attempt, 'worker', lease_owner, 'at', now()) AS error
    FROM jobs WHERE state = 'running' AND {{which}} LIMIT 100 FOR UPDATE SKIP LOCKED) v
WHERE id = v.job
RETURNING id, state
"""

# After a restart of Postgres every lease looks expired: wait for one lease, so that living workers can prolong theirs.
LEASE_OVER = """
(lease_expires_at < now()
    OR attempt_started_at < now() - make_interval(secs => CAST(CAST(:max_runtimes AS jsonb) ->> family AS float8)))
AND pg_postmaster_start_time() < now() - make_interval(secs => :lease)
"""
SEEN = bindparam("seen", type_=JSONB)
REAP_EXPIRED = text(REAP.format(which=LEASE_OVER)).bindparams(bindparam("max_runtimes", type_=JSONB), SEEN)
REAP_WORKER = text(REAP.format(which="lease_owner = :worker")).bindparams(SEEN)

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
WHERE purged = 'marked' AND purged_at < now() - make_interval(secs => :grace) AND id <> ALL(CAST(:but AS uuid[]))
LIMIT 10 FOR UPDATE SKIP LOCKED
""")

PURGED = text("UPDATE jobs SET purged = 'done', stored_bytes = 0 WHERE id = ANY(:ids)")
REMOVE = text("DELETE FROM jobs WHERE id = ANY(:ids)")
FORGET_KEYS = text("DELETE FROM idempotency_keys WHERE created_at < now() - make_interval(secs => :age)")

# Attempts that lost: their job ended over an hour ago, and they are not its result. As the index has it.
ORPHANS = text("""
SELECT id, owner, attempt, result_attempt FROM jobs
WHERE finished_at < now() - interval '1 hour' AND finished_at > now() - interval '3 hours'
    AND (attempt > 1 OR (attempt = 1 AND result_attempt IS NULL))
""")


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may go wrong: crashes and failures a job, the pause after a second crash (s), the results' life (s).

    A job that crashed on so many different `poison_workers` fails, whatever its other budgets allow.
    """

    max_crashes: int
    max_failures: int
    pause: float
    ttl: float
    poison_workers: int = 2

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the settings have it."""
        return cls(
            max_crashes=settings.max_crashes,
            max_failures=settings.max_failures,
            pause=settings.backoff_seconds,
            ttl=settings.result_ttl_seconds,
            poison_workers=settings.poison_workers,
        )


@dataclass(frozen=True, slots=True)
class Moved:
    """A job that upkeep moved, and its new state."""

    id: UUID
    state: str


def reap_expired(connection: Connection, budget: Budget, lease: float, max_runtimes: dict[str, float]) -> list[Moved]:
    """T9: move on jobs whose lease ran out, or that run longer than their family allows (seconds a family).

    None if there are no more.
    """
    values = asdict(budget) | {"lease": lease, "max_runtimes": max_runtimes, "charge": True, "seen": NOTHING.values()}
    return [Moved(row.id, row.state) for row in connection.execute(REAP_EXPIRED, values)]


def reap_worker(
    connection: Connection, budget: Budget, worker: str, seen: Seen = NOTHING, *, charge: bool = True
) -> list[Moved]:
    """T9 for one worker whose parent saw it die: no need to wait for the lease. `seen` is what it left.

    Without `charge` no job is at fault.
    """
    values = asdict(budget) | {"worker": worker, "charge": charge, "seen": seen.values()}
    return [Moved(row.id, row.state) for row in connection.execute(REAP_WORKER, values)]


def expire(connection: Connection, ttl: float) -> list[Moved]:
    """T11: end queued jobs whose deadline passed; none if there are no more."""
    return [Moved(row.id, "expired") for row in connection.execute(EXPIRE, {"ttl": ttl})]


@dataclass(frozen=True, slots=True)
class Doomed:
    """A job whose files go now; with `deleted` its row goes too."""

    id: UUID
    owner: str
    attempt: int
    deleted: bool


def mark_for_purge(connection: Connection) -> int:
    """T12, first phase: from now on `/results` answers 410. How many were marked: none if no more are due."""
    return connection.execute(MARK).rowcount


def marked(connection: Connection, grace: float, but: Collection[UUID] = ()) -> list[Doomed]:
    """T12, second phase: some jobs marked at least `grace` seconds ago (longer than any download). Locks the rows.

    Few, because Postgres ends a transaction that stands still for as long as a slow store takes for many.
    """
    rows = connection.execute(MARKED, {"grace": grace, "but": list(but)})
    return [Doomed(**row._mapping) for row in rows]


def purge_done(connection: Connection, jobs: list[Doomed]) -> None:
    """Their files are gone; rows that the owner deleted go as well."""
    connection.execute(PURGED, {"ids": [job.id for job in jobs]})
    connection.execute(REMOVE, {"ids": [job.id for job in jobs if job.deleted]})


def forget_keys(connection: Connection, age: float) -> int:
    """Drop idempotency keys older than `age` seconds."""
    return connection.execute(FORGET_KEYS, {"age": age}).rowcount


@dataclass(frozen=True, slots=True)
class Finished:
    """A job that ended a while ago and had an attempt that is not its result."""

    id: UUID
    owner: str
    attempt: int
    result_attempt: int | None


def finished_with_orphans(connection: Connection) -> list[Finished]:
    """Jobs that ended one to three hours ago and had an attempt that is not their result."""
    return [Finished(**row._mapping) for row in connection.execute(ORPHANS)]
