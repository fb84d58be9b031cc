"""T1 on asyncpg: submits that wait at the same moment share one transaction, hence one flush to disk.

A batch forms while the last one is being committed; there is no timer, so an idle gateway answers at once.
In the transaction: (a) idempotency keys are claimed, (b) the counters' advisory locks are taken, (c) live jobs are
counted and quotas looked at, (d) files that were stored become the jobs', (e) the rows are inserted. READ COMMITTED
throughout: each statement sees what the locks waited for.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg

from shared.database_faults import NoConnection, is_away
from shared.errors import (
    AtelierError,
    Conflict,
    IdempotencyMismatch,
    OutcomeUnknown,
    QueueFull,
    RateLimited,
    Unavailable,
)
from shared.failpoints import failpoint
from shared.family import DEFAULT_MODEL
from shared.jobs.pace import Paces
from shared.usage.quotas import NO_QUOTAS, Booked, Quotas, booked, refusal
from shared.wall import acting_for
from shared.webhooks.registry import JobTarget, add_to_jobs

MAX_BATCH = 256
OWNER_LOCK, FAMILY_LOCK = 1, 2

CLAIM_KEYS = """
INSERT INTO idempotency_keys (owner, key, fingerprint, job_id)
SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::uuid[])
ON CONFLICT DO NOTHING RETURNING owner, key
"""
READ_KEYS = """
SELECT k.owner, k.key, k.fingerprint, k.job_id FROM idempotency_keys k
JOIN unnest($1::text[], $2::text[]) AS w(owner, key) USING (owner, key)
"""
FREE_KEYS = """
DELETE FROM idempotency_keys k USING unnest($1::text[], $2::text[]) AS w(owner, key)
WHERE (k.owner, k.key) = (w.owner, w.key)
"""
# From before the first byte is stored until the job's row is there, whatever ends the gateway in between.
FILES_ARRIVE = "INSERT INTO arriving_files (job_id, owner) VALUES ($1, $2)"
FILES_ARRIVED = "DELETE FROM arriving_files WHERE job_id = ANY($1::uuid[]) RETURNING job_id"
LOCK = "SELECT pg_advisory_xact_lock($1, hashtext(name)) FROM (SELECT unnest($2::text[]) AS name ORDER BY 1) n"
# Counting stops at the limit: a long queue costs no more than the limit itself. Over all owners only functions look
# (migration 0006).
COUNT_OWNER = "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE owner = $1 AND state IN ('queued','running') LIMIT $2) n"
COUNT_FAMILY = "SELECT jobs_queued($1, $2)"

# A job's turn is one after its owner's last in this family and priority, and never before the turn now being served:
# start-time fair queuing (Goyal, Vin, Cheng 1996) with every job of weight one.
INSERT = """
WITH new AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::jsonb[], $7::float8[],
            $8::bigint[], $9::text[], $10::text[])
        WITH ORDINALITY
        AS n(id, owner, family, operation, priority, input, deadline, stored_bytes, batch_key, model, place)
), base AS (
    SELECT owner, family, priority, greatest(
        (SELECT turn FROM jobs j WHERE j.state = 'queued' AND j.family = g.family
            AND j.priority = g.priority AND j.owner = g.owner ORDER BY turn DESC LIMIT 1),
        turn_served(g.family, g.priority) - 1, 0) AS turn
    FROM (SELECT DISTINCT owner, family, priority FROM new) g
)
INSERT INTO jobs (id, owner, family, operation, priority, input, deadline_at, stored_bytes, batch_key, model, turn)
SELECT n.id, n.owner, n.family, n.operation, n.priority, n.input, now() + make_interval(secs => n.deadline),
    n.stored_bytes, n.batch_key, n.model,
    b.turn + row_number() OVER (PARTITION BY n.owner, n.family, n.priority ORDER BY n.place)
FROM new n JOIN base b USING (owner, family, priority)
ORDER BY n.owner  -- in which the trigger books files: two gateways must not wait for each other crosswise
"""


@dataclass(slots=True, eq=False)
class Submission:
    """A validated request on its way into the table, with the bytes of its files that lie in the storage.

    `with_files` is set for one whose files were announced. `deadline` is in seconds from now. `model` is what a worker
    loads for it. Jobs of a family with equal `batch_key`s may run as one batch. `fingerprint` is set with `key` only.
    `place` is the one among those that are refused together.
    """

    id: UUID
    owner: str
    family: str
    operation: str
    priority: int
    input: str
    deadline: float
    model: str = DEFAULT_MODEL
    batch_key: str | None = None
    stored_bytes: int = 0
    with_files: bool = False
    quotas: Quotas = NO_QUOTAS
    key: str | None = None
    fingerprint: bytes | None = None
    webhook: JobTarget | None = None
    place: int = 1
    outcome: asyncio.Future[Receipt] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def name(self) -> tuple[str, str | None]:
        """The idempotency key within its owner."""
        return self.owner, self.key


@dataclass(frozen=True, slots=True)
class Receipt:
    """The job that a submit made, or the one that an earlier submit with the same key made."""

    job_id: UUID
    replayed: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """Live jobs an owner may have, and queued jobs a family may have; 0 means no limit.

    `purge_grace` is how long files outlive their time (seconds), to tell when there is room for others. `turn` is how
    long a request waits for those before it (seconds); a database that takes longer has too much to do.
    """

    per_owner: int
    per_family: int
    purge_grace: float = 0
    turn: float = 1.0


class Submitter:
    """Accepts jobs durably; `on_commit` hears which families have new work, after the commit."""

    def __init__(self, pool: asyncpg.Pool, limits: Limits, on_commit: Callable[[set[str]], None]) -> None:
        self._pool, self._limits, self._on_commit = pool, limits, on_commit
        self._paces = Paces(pool)
        self._waiting: list[Submission] = []
        self._task: asyncio.Task[None] | None = None

    async def submit(self, submission: Submission) -> Receipt:
        """Commit the job and return its receipt; raises the AtelierError that the client is to see."""
        self._waiting.append(submission)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        timer = asyncio.get_running_loop().call_later(self._limits.turn, self._give_up, submission)
        try:
            return await submission.outcome
        except (RateLimited, QueueFull) as error:
            await self._tell_when(submission, error)
            raise
        finally:
            timer.cancel()

    async def announce_files(self, submission: Submission) -> None:
        """To be called before files of this job are stored: if it is never committed, the janitor removes them."""
        async with acting_for(self._pool, [submission.owner]) as connection:
            await connection.execute(FILES_ARRIVE, submission.id, submission.owner)
        submission.with_files = True

    async def earlier(self, submission: Submission) -> Receipt | None:
        """The receipt of an earlier, equal request with the same key, or None; nothing is submitted."""
        if submission.key is None:
            return None
        async with acting_for(self._pool, [submission.owner]) as connection:
            rows = await connection.fetch(READ_KEYS, [submission.owner], [submission.key])
        same = [row["job_id"] for row in rows if row["fingerprint"] == submission.fingerprint]
        return Receipt(same[0], replayed=True) if same else None

    async def close(self) -> None:
        """Wait until everything that was accepted is committed."""
        if self._task is not None:
            await self._task

    def _give_up(self, submission: Submission) -> None:
        """Refuse it, if its turn has not come."""
        left = [other for other in self._waiting if other is not submission]
        if len(left) < len(self._waiting) and not submission.outcome.done():
            self._waiting = left
            busy = "Too many jobs are being accepted; try again with the same Idempotency-Key."
            submission.outcome.set_exception(Unavailable(busy, headers={"Retry-After": "1"}))

    async def _tell_when(self, submission: Submission, error: AtelierError) -> None:
        """Say when there may be room. What knows its time already says it."""
        if "Retry-After" in error.headers:
            return
        pace = await self._paces.of(submission.family)
        excess = submission.place
        if isinstance(error, QueueFull):
            error.details["current"] = pace.queued
            excess += max(0, pace.queued - self._limits.per_family)
        error.headers["Retry-After"] = str(pace.seconds_until(excess))

    async def _drain(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            try:
                await self._commit(batch)
            except (asyncpg.DataError, asyncpg.DeadlockDetectedError):
                await self._one_by_one(batch)
            except Exception as error:  # a bug of ours too: whoever waits hears of it
                self._refuse(batch, error)

    async def _one_by_one(self, batch: list[Submission]) -> None:
        """One row that Postgres refuses must not take its neighbours with it; and one owner's rows cannot deadlock."""
        for submission in batch:
            try:
                await self._commit([submission])
            except Exception as error:
                self._refuse([submission], error)

    def _refuse(self, batch: list[Submission], error: Exception) -> None:
        for submission in batch:
            if not submission.outcome.done():
                submission.outcome.set_exception(_translated(error))

    async def _commit(self, batch: list[Submission]) -> None:
        owners = {submission.owner for submission in batch}
        async with acting_for(self._pool, owners) as connection, connection.transaction():
            round_ = _Round(connection, self._limits)
            accepted = await round_.run(batch)
            failpoint("G1")
        failpoint("G2")
        if accepted:
            self._on_commit({submission.family for submission in accepted})
        for submission in batch:
            if not submission.outcome.done():  # else its request was cancelled; the job stands all the same
                _settle(submission, round_)


class _Round:
    """One batch inside its transaction."""

    def __init__(self, connection: asyncpg.Connection, limits: Limits) -> None:
        self._db, self._limits = connection, limits
        self.refused: dict[UUID, AtelierError] = {}
        self.earlier: dict[UUID, UUID] = {}

    async def run(self, batch: list[Submission]) -> list[Submission]:
        """The submissions whose rows were inserted; the others are in `refused` or `earlier`."""
        fresh = await self._claim_keys(batch)
        admitted = await self._with_their_files(await self._admit(fresh))
        await self._free_keys([s for s in fresh if s.id in self.refused])
        self._follow_same_batch(batch)
        if admitted:
            await self._insert(admitted)
        return admitted

    async def _claim_keys(self, batch: list[Submission]) -> list[Submission]:
        keyed = {s.name: s for s in reversed(batch) if s.key is not None}
        if not keyed:
            return batch
        # In one order everywhere: two gateways that claim the same keys must not wait for each other crosswise.
        rows = [(s.owner, s.key, s.fingerprint, s.id) for _, s in sorted(keyed.items())]
        won = {tuple(r) for r in await self._db.fetch(CLAIM_KEYS, *_columns(rows))}
        taken = [s for name, s in keyed.items() if name not in won]
        if taken:
            await self._follow(taken)
        return [s for s in batch if s.key is None or (keyed[s.name] is s and s.name in won)]

    async def _follow(self, taken: list[Submission]) -> None:
        rows = await self._db.fetch(READ_KEYS, [s.owner for s in taken], [s.key for s in taken])
        known = {(r["owner"], r["key"]): r for r in rows}
        for submission in taken:
            row = known.get(submission.name)
            if row is None:  # its row was forgotten between the two statements
                self.refused[submission.id] = Conflict("A request with this Idempotency-Key is in flight; try again.")
            else:
                self._replay(submission, row["fingerprint"], row["job_id"])

    def _replay(self, submission: Submission, fingerprint: bytes, job_id: UUID) -> None:
        if fingerprint == submission.fingerprint:
            self.earlier[submission.id] = job_id
        else:
            self.refused[submission.id] = IdempotencyMismatch(
                "This Idempotency-Key was used with a different request.", details={"field": "Idempotency-Key"}
            )

    def _follow_same_batch(self, batch: list[Submission]) -> None:
        """Several requests with one key in one batch: the later ones share the first one's fate."""
        first: dict[tuple[str, str | None], Submission] = {}
        for submission in batch:
            if submission.key is None:
                continue
            leader = first.setdefault(submission.name, submission)
            if leader is submission or submission.id in self.refused:
                continue
            if leader.id in self.refused:
                self.refused[submission.id] = self.refused[leader.id]
            else:
                job_id = self.earlier.get(leader.id, leader.id)
                self._replay(submission, leader.fingerprint or b"", job_id)

    async def _admit(self, fresh: list[Submission]) -> list[Submission]:
        limits, metered = self._limits, {s.owner for s in fresh if s.quotas}
        await self._lock(OWNER_LOCK, {s.owner for s in fresh} if limits.per_owner else metered)
        room_owner = await self._room(COUNT_OWNER, limits.per_owner, {s.owner for s in fresh})
        used = await booked(self._db, metered) if metered else {}
        if limits.per_family:
            await self._lock(FAMILY_LOCK, {s.family for s in fresh})
        room_family = await self._room(COUNT_FAMILY, limits.per_family, {s.family for s in fresh})
        admitted = []
        for submission in fresh:
            submission.place = 1 + len(self.refused)
            if not room_owner.get(submission.owner, 1):
                self.refused[submission.id] = _too_many(limits.per_owner)
            elif over := await self._over_quota(submission, used):
                self.refused[submission.id] = over
            elif not room_family.get(submission.family, 1):
                self.refused[submission.id] = _queue_full(submission.family, limits.per_family)
            else:
                _take(room_owner, submission.owner)
                _take(room_family, submission.family)
                if submission.owner in used:
                    used[submission.owner].stored_bytes += submission.stored_bytes
                admitted.append(submission)
        return admitted

    async def _with_their_files(self, admitted: list[Submission]) -> list[Submission]:
        """Those whose files the janitor did not take for left behind: it waits longer than any request takes."""
        announced = [s.id for s in admitted if s.with_files]
        if not announced:
            return admitted
        there = {row["job_id"] for row in await self._db.fetch(FILES_ARRIVED, announced)}
        for lost in set(announced) - there:
            self.refused[lost] = Unavailable("The request took too long; try again.", headers={"Retry-After": "1"})
        return [s for s in admitted if s.id not in self.refused]

    async def _lock(self, kind: int, names: set[str]) -> None:
        """Nobody else counts for these names until this transaction ends; Unavailable if others take too long."""
        if not names:
            return
        try:
            await self._db.execute(LOCK, kind, sorted(names))
        except asyncpg.LockNotAvailableError:
            if kind == OWNER_LOCK and len(names) == 1:  # else it is not, or may not be, a request of the same owner
                raise
            raise Unavailable("Other jobs are being accepted; try again.", headers={"Retry-After": "1"}) from None

    async def _room(self, count: str, limit: int, names: set[str]) -> dict[str, int]:
        """How many more jobs each name may have; empty if there is no limit."""
        if not limit:
            return {}
        return {name: max(0, limit - await self._db.fetchval(count, name, limit)) for name in names}

    async def _over_quota(self, submission: Submission, used: dict[str, Booked]) -> AtelierError | None:
        if not submission.quotas:
            return None
        return await refusal(self._db, submission.quotas, used[submission.owner], self._limits.purge_grace)

    async def _free_keys(self, refused: list[Submission]) -> None:
        keyed = [s for s in refused if s.key is not None]
        if keyed:
            await self._db.execute(FREE_KEYS, [s.owner for s in keyed], [s.key for s in keyed])

    async def _insert(self, admitted: list[Submission]) -> None:
        rows = [
            (
                s.id,
                s.owner,
                s.family,
                s.operation,
                s.priority,
                s.input,
                s.deadline,
                s.stored_bytes,
                s.batch_key,
                s.model,
            )
            for s in admitted
        ]
        await self._db.execute(INSERT, *_columns(rows))
        if targets := [(s.id, s.owner, s.webhook) for s in admitted if s.webhook is not None]:
            await add_to_jobs(self._db, targets)


def _take(room: dict[str, int], name: str) -> None:
    if name in room:
        room[name] -= 1


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _settle(submission: Submission, round_: _Round) -> None:
    if error := round_.refused.get(submission.id):
        submission.outcome.set_exception(error)
    else:
        earlier = round_.earlier.get(submission.id)
        submission.outcome.set_result(Receipt(earlier or submission.id, replayed=earlier is not None))


def _too_many(limit: int) -> AtelierError:
    return RateLimited(f"You already have {limit} jobs queued or running.", details={"limit": limit, "current": limit})


def _queue_full(family: str, limit: int) -> AtelierError:
    return QueueFull(
        f"The {family} queue is full ({limit} jobs).",
        details={"limit": limit, "current": limit, "family": family},
    )


def _translated(error: Exception) -> Exception:
    """What the client is to see; an error that nobody expects stays as it is."""
    if isinstance(error, asyncpg.LockNotAvailableError):
        return Conflict("Another request of yours is being accepted; try again.", headers={"Retry-After": "1"})
    if is_away(error):
        kind = Unavailable if isinstance(error, NoConnection) else OutcomeUnknown
        return kind(
            "The job could not be stored; try again with the same Idempotency-Key.", headers={"Retry-After": "2"}
        )
    return error


def encode_input(value: Any) -> str:
    """JSON as the row stores it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
