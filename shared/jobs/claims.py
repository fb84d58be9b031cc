"""How queued jobs reach a worker: the dispatcher rings for them (T2), a worker claims them (T3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.breakers.devices import NOWHERE, Place

# Priority first, then turns, so that a heavy owner's tenth job waits for a light owner's first; then age.
ORDER = "priority DESC, turn, id"

# A paused model's jobs wait, but for the one that tries it (`shared/breakers/`). Each list is read once a statement. By
# a CASE the planner expects nothing: it walks the queue in its order, as if there were no breakers.
_OF_BREAKERS = "ARRAY(SELECT {column} FROM breakers WHERE family = {family} AND closed_at IS NULL)"
_PAUSED, _PROBES = (_OF_BREAKERS.replace("{column}", column) for column in ("model", "probe"))
_GOES_ON = f"CASE WHEN model = ANY ({_PAUSED}) THEN id = ANY ({_PROBES}) ELSE true END"
GOES_ON, FAMILY_GOES_ON = _GOES_ON.format(family="jobs.family"), _GOES_ON.format(family=":family")
# A device in quarantine takes nothing.
FIT = "NOT EXISTS (SELECT FROM quarantines WHERE host = :host AND device = :device AND until > now())"

RING = text(f"""
UPDATE jobs SET dispatched_at = now(), dispatch_no = dispatch_no + 1
WHERE id IN (
    SELECT id FROM jobs
    WHERE state = 'queued' AND family = :family AND run_after <= now() AND {FAMILY_GOES_ON}
      AND (dispatched_at IS NULL OR dispatched_at < now() - make_interval(secs => :unanswered))
    ORDER BY {ORDER} LIMIT :need FOR UPDATE SKIP LOCKED)
RETURNING id, dispatch_no, priority, turn
""")

UNRING = text("UPDATE jobs SET dispatched_at = NULL WHERE id = ANY(:ids) AND state = 'queued'")

CLAIMED = """
state = 'running', attempt = attempt + 1, lease_owner = :worker, progress = NULL, dispatched_at = NULL,
started_at = coalesce(started_at, now()), attempt_started_at = now(),
lease_expires_at = now() + make_interval(secs => :lease), batch_size = {size}
"""
ALONE = CLAIMED.format(size=1)
READY = "state = 'queued' AND run_after <= now() AND (deadline_at IS NULL OR deadline_at > now())"
RETURNED = """
id, owner, family, operation, input, attempt, batch_key,
extract(epoch FROM deadline_at - clock_timestamp())::float8 AS remaining
"""

CLAIM = text(f"""
UPDATE jobs SET {ALONE} WHERE id = :id AND {READY} AND {GOES_ON} AND {FIT} RETURNING {RETURNED}
""")

CLAIM_NEXT = text(f"""
UPDATE jobs SET {ALONE}
WHERE id = (
    SELECT id FROM jobs WHERE family = :family AND {READY} AND {FAMILY_GOES_ON} AND {FIT}
    ORDER BY {ORDER} LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING {RETURNED}
""")

CLAIM_COMPANIONS = text(f"""
WITH companions AS (
    SELECT id FROM jobs WHERE family = :family AND batch_key = :batch_key AND {READY} AND {FAMILY_GOES_ON}
    ORDER BY {ORDER} LIMIT :most FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE jobs SET {CLAIMED.format(size="1 + (SELECT count(*) FROM companions)")}
    WHERE id IN (SELECT id FROM companions)
    RETURNING *)
SELECT {RETURNED} FROM taken ORDER BY {ORDER}
""")

ACCOMPANIED = text("UPDATE jobs SET batch_size = :size WHERE id = :id")


@dataclass(frozen=True, slots=True)
class Doorbell:
    """What the dispatcher publishes for one job; `number` counts how often it rang."""

    job_id: UUID
    number: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to one attempt.

    With a `batch_key` it may run as one batch with others of its family and key. `remaining` is the time to the
    deadline in seconds, if there is one.
    """

    id: UUID
    owner: str
    family: str
    operation: str
    input: dict[str, Any]
    attempt: int
    batch_key: str | None
    remaining: float | None


def ring(connection: Connection, family: str, need: int, unanswered: float) -> list[Doorbell]:
    """T2: mark up to `need` jobs as dispatched; those that nobody answered for `unanswered` seconds ring again."""
    rows = connection.execute(RING, {"family": family, "need": need, "unanswered": unanswered})
    # UPDATE returns rows in no particular order.
    ordered = sorted(rows, key=lambda row: (-row.priority, row.turn, row.id))
    return [Doorbell(row.id, row.dispatch_no) for row in ordered]


def unring(connection: Connection, bells: list[Doorbell]) -> None:
    """The doorbells could not be published: ring for these jobs again at the next round."""
    connection.execute(UNRING, {"ids": [bell.job_id for bell in bells]})


def claim(connection: Connection, job_id: UUID, worker: str, lease: float, place: Place = NOWHERE) -> Claim | None:
    """T3: take this job if it is still queued and due, else None (a late, doubled or forged doorbell).

    Nothing is taken for a `place` in quarantine, and nothing whose model is paused.
    """
    values = {"id": job_id, "worker": worker, "lease": lease, **place._asdict()}
    row = connection.execute(CLAIM, values).one_or_none()
    return Claim(**row._mapping) if row else None


def claim_next(connection: Connection, family: str, worker: str, lease: float, place: Place = NOWHERE) -> Claim | None:
    """Take the family's next due job without waiting for its doorbell, so that a busy worker never runs dry."""
    values = {"family": family, "worker": worker, "lease": lease, **place._asdict()}
    row = connection.execute(CLAIM_NEXT, values).one_or_none()
    return Claim(**row._mapping) if row else None


def claim_companions(connection: Connection, first: Claim, most: int, worker: str, lease: float) -> list[Claim]:
    """Up to `most` further due jobs that may run as one batch with `first`, in the queue's order.

    It belongs into the transaction that claimed `first`. Companions may be other owners' and stand further back: each
    would wait otherwise, and nobody waits for them longer than the batch takes beyond its first job, for which it is
    their turn. Those who ride along spend no turn of their owner's.
    """
    values = {"family": first.family, "batch_key": first.batch_key, "most": most, "worker": worker, "lease": lease}
    companions = [Claim(**row._mapping) for row in connection.execute(CLAIM_COMPANIONS, values)]
    if companions:
        connection.execute(ACCOMPANIED, {"id": first.id, "size": 1 + len(companions)})
    return companions
