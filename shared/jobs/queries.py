"""What the gateway reads and asks of a job (asyncpg). Every statement names the owner: a foreign id is unknown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Any
from uuid import UUID

import asyncpg

from shared.jobs import records
from shared.jobs.gathered import GatheredReads
from shared.jobs.notices import CANCEL_CHANNEL
from shared.jobs.states import NEVER_RAN
from shared.wall import acting_for

COLUMNS = """id, owner, family, operation, model, state, priority, turn, attempt, failures, progress, error, created_at,
started_at, finished_at, run_after, deadline_at, cancel_requested_at, purged, now() AS now"""

STATUS = f"""
SELECT job.* FROM unnest($1::uuid[], $2::text[]) AS asked(id, owner) CROSS JOIN LATERAL (
    SELECT {COLUMNS} FROM jobs WHERE jobs.id = asked.id AND jobs.owner = asked.owner AND deleted_at IS NULL
    LIMIT 1) job
"""
STATES = """
SELECT jobs.id, state FROM jobs JOIN unnest($1::uuid[], $2::text[]) AS asked(id, owner) USING (id, owner)
"""
RESULT = f"SELECT {COLUMNS}, input, output, manifest FROM jobs WHERE id = $1 AND owner = $2 AND deleted_at IS NULL"

# Over all owners, hence a function that only counts (migration 0006).
AHEAD = "SELECT jobs_ahead($1, $2, $3, $4, $5)"

# One statement: between two, the job could start.
CANCEL = f"""
WITH wished AS (
    UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, now()),
        state = CASE WHEN state = 'queued' THEN 'cancelled' ELSE state END,
        finished_at = CASE WHEN state = 'queued' THEN now() END,
        purge_after = CASE WHEN state = 'queued' THEN now() + make_interval(secs => $3) END
    WHERE id = $1 AND owner = $2 AND state IN ('queued', 'running') AND deleted_at IS NULL
    RETURNING id, state)
SELECT state, pg_notify('{CANCEL_CHANNEL}', id::text) FROM wished
"""

# A queued job ends here. One that runs is written anew as it is, so that a publication that looked at it before the
# deadline looks again, and finds the deadline passed: its worker ends it.
EXPIRE = f"""
UPDATE jobs SET state = CASE WHEN state = 'queued' THEN 'expired' ELSE state END,
    finished_at = CASE WHEN state = 'queued' THEN now() END,
    purge_after = CASE WHEN state = 'queued' THEN now() + make_interval(secs => $3) END,
    error = CASE WHEN state = 'queued' THEN {NEVER_RAN} ELSE error END
WHERE id = $1 AND owner = $2 AND state IN ('queued', 'running') AND deadline_at <= clock_timestamp()
RETURNING state
"""

DELETE = """
UPDATE jobs SET deleted_at = now(), purge_after = now(), purged = NULL
WHERE id = $1 AND owner = $2 AND deleted_at IS NULL AND state NOT IN ('queued', 'running') RETURNING id
"""

LIST = f"""
SELECT {COLUMNS} FROM jobs
WHERE owner = $1 AND deleted_at IS NULL AND ($2::uuid IS NULL OR id < $2)
    AND ($3::text[] IS NULL OR state = ANY($3)) AND ($4::text IS NULL OR family = $4)
    AND ($5::text IS NULL OR operation = $5)
ORDER BY id DESC LIMIT $6
"""

ATTEMPTS = "SELECT attempts FROM jobs WHERE id = $1 AND owner = $2 AND deleted_at IS NULL"

# Over all owners, hence a function (migration 0011), which shows nothing else of the job.
ANYBODYS_ATTEMPTS = "SELECT job_attempts($1)"

COUNTED_AHEAD = 1000


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as the gateway shows it. `now` is the database's clock at the time of reading."""

    id: UUID
    owner: str
    family: str
    operation: str
    model: str | None
    state: str
    priority: int
    turn: int
    attempt: int
    failures: int
    progress: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    run_after: datetime
    deadline_at: datetime | None
    cancel_requested_at: datetime | None
    purged: str | None
    now: datetime

    @property
    def finished(self) -> bool:
        return self.finished_at is not None

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, from the time of reading; infinite without one."""
        return (self.deadline_at - self.now).total_seconds() if self.deadline_at else inf


@dataclass(frozen=True, slots=True)
class ResultView:
    """A job with what it was asked and what it made; `manifest` lists its files."""

    job: JobView
    input: dict[str, Any]
    output: dict[str, Any]
    manifest: list[dict[str, Any]]


def _loads(text: str | None) -> Any:
    return json.loads(text) if text is not None else None


def _records(found: str | None) -> list[dict[str, Any]] | None:
    return [records.read(entry) for entry in _loads(found)] if found is not None else None


def _view(row: asyncpg.Record) -> JobView:
    values = dict(row)
    values["progress"], values["error"] = _loads(row["progress"]), _loads(row["error"])
    return JobView(**values)


class JobQueries:
    """Reads and wishes of owners. Its pool is not the one that submits use: status works while submits wait."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._statuses = GatheredReads(pool, STATUS)

    async def get(self, job_id: UUID, owner: str) -> JobView | None:
        """The owner's job, or None."""
        row = await self._statuses.get(job_id, owner)
        return _view(row) if row else None

    async def result(self, job_id: UUID, owner: str) -> ResultView | None:
        """The owner's job with input, output and manifest (empty unless completed), or None."""
        async with acting_for(self._pool, [owner]) as connection:
            row = await connection.fetchrow(RESULT, job_id, owner)
        if row is None:
            return None
        values = dict(row)
        extra = {name: _loads(values.pop(name)) for name in ("input", "output", "manifest")}
        values["progress"], values["error"] = _loads(row["progress"]), _loads(row["error"])
        return ResultView(JobView(**values), extra["input"], extra["output"] or {}, extra["manifest"] or [])

    async def attempts(self, job_id: UUID, owner: str) -> list[dict[str, Any]] | None:
        """The records of the attempts that ended of the owner's job, in full (`records.py`), or None."""
        async with acting_for(self._pool, [owner]) as connection:
            return _records(await connection.fetchval(ATTEMPTS, job_id, owner))

    async def anybodys_attempts(self, job_id: UUID) -> list[dict[str, Any]] | None:
        """The same of whoever's job it is: for those who keep the platform."""
        return _records(await self._pool.fetchval(ANYBODYS_ATTEMPTS, job_id))

    async def states(self, owners: Mapping[UUID, str]) -> dict[UUID, str]:
        """States by id, of jobs whose owners are given by id (waiting requests); unknown ids are left out."""
        async with acting_for(self._pool, owners.values()) as connection:
            rows = await connection.fetch(STATES, list(owners), list(owners.values()))
        return {row["id"]: row["state"] for row in rows}

    async def ahead(self, job: JobView) -> int:
        """How many queued jobs go before this one, counted up to COUNTED_AHEAD."""
        async with acting_for(self._pool, [job.owner]) as connection:  # as it most likely is already
            place = job.family, job.priority, job.turn, job.id
            return int(await connection.fetchval(AHEAD, *place, COUNTED_AHEAD))

    async def cancel(self, job_id: UUID, owner: str, ttl: float) -> str | None:
        """T10: the state after the wish ("cancelled", or "running" until the worker stops); None if it had ended."""
        async with acting_for(self._pool, [owner]) as connection:
            state: str | None = await connection.fetchval(CANCEL, job_id, owner, ttl)
        return state

    async def expire(self, job_id: UUID, owner: str, ttl: float) -> str | None:
        """The state of a job whose deadline has passed, and which now never completes: "expired", or "running" until
        its worker stops. None if it had ended, or if there is time left.
        """
        async with acting_for(self._pool, [owner]) as connection:
            state: str | None = await connection.fetchval(EXPIRE, job_id, owner, ttl)
        return state

    async def delete(self, job_id: UUID, owner: str) -> bool:
        """Forget an ended job: it disappears at once, the janitor removes its files."""
        async with acting_for(self._pool, [owner]) as connection:
            return await connection.fetchval(DELETE, job_id, owner) is not None

    async def page(
        self,
        owner: str,
        *,
        before: UUID | None,
        states: Sequence[str] | None,
        family: str | None,
        operation: str | None,
        limit: int,
    ) -> list[JobView]:
        """The owner's jobs, newest first, older than `before`."""
        async with acting_for(self._pool, [owner]) as connection:
            rows = await connection.fetch(LIST, owner, before, states, family, operation, limit)
        return [_view(row) for row in rows]
