"""What the sender does to deliveries: claim what is due, note what came of it, forget what is old."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

LEASE_SECONDS = 60.0  # longer than any try; a sender that died held it so long
MAX_FORGOTTEN = 1000

# Only one claims at a time, so that the counts below are exact whatever the number of senders.
LOCK = text("SELECT pg_try_advisory_xact_lock(4, 0)")

# The destinations with something pending are found by hopping through the index from one to the next: the cost is
# theirs, not that of the backlog behind them. Each gives what it may still have in flight, and so does each owner.
CLAIM = text("""
WITH RECURSIVE places AS (
    (SELECT destination FROM deliveries WHERE state = 'pending' ORDER BY destination LIMIT 1)
    UNION ALL
    SELECT (SELECT d.destination FROM deliveries d
            WHERE d.state = 'pending' AND d.destination > p.destination ORDER BY d.destination LIMIT 1)
    FROM places p WHERE p.destination IS NOT NULL
), flying AS MATERIALIZED (
    SELECT destination, owner FROM deliveries WHERE state = 'pending' AND lease_until > now()
), due AS (
    SELECT d.event_id, d.owner, d.next_at FROM places p CROSS JOIN LATERAL (
        SELECT event_id, owner, next_at FROM deliveries
        WHERE state = 'pending' AND destination = p.destination AND next_at <= now()
            AND (lease_until IS NULL OR lease_until <= now())
        ORDER BY next_at
        LIMIT greatest(0, :per_destination - (SELECT count(*) FROM flying f WHERE f.destination = p.destination))) d
    WHERE p.destination IS NOT NULL
), ranked AS (
    SELECT event_id, next_at, row_number() OVER (PARTITION BY owner ORDER BY next_at)
        + (SELECT count(*) FROM flying f WHERE f.owner = due.owner) AS place FROM due
)
UPDATE deliveries d SET tries = d.tries + 1, tried_at = now(), lease_until = now() + make_interval(secs => :lease)
FROM (SELECT event_id FROM ranked WHERE place <= :per_owner ORDER BY next_at LIMIT :room) chosen
WHERE d.event_id = chosen.event_id
RETURNING d.event_id, d.owner, d.webhook_id, d.job_id, d.type, d.data, d.created_at, d.tried_at, d.destination, d.tries,
    d.tries - d.tries_before AS turn, coalesce(d.url, (SELECT url FROM webhooks w WHERE w.id = d.webhook_id)) AS url,
    ARRAY(SELECT secret FROM webhook_secrets s
        WHERE s.owner = d.owner AND s.webhook_id IS NOT DISTINCT FROM d.webhook_id
            AND (s.expires_at IS NULL OR s.expires_at > now())
        ORDER BY s.expires_at IS NULL DESC) AS keys
""")

FINISH = text("""
UPDATE deliveries SET state = :state, status = :status, response = :response, error = :error, lease_until = NULL,
    finished_at = CASE WHEN :state = 'pending' THEN NULL ELSE now() END,
    next_at = CASE WHEN :state = 'pending' THEN now() + make_interval(secs => :pause) ELSE next_at END
WHERE event_id = :event_id AND tries = :tries AND state = 'pending'
RETURNING event_id
""")
POSTPONE = text("""
UPDATE deliveries SET next_at = greatest(next_at, now() + make_interval(secs => :pause))
WHERE state = 'pending' AND destination = :destination AND next_at < now() + make_interval(secs => :pause)
""")
DISABLE = text("""
UPDATE webhooks SET disabled_at = now(), disabled_reason = 'the receiver answered 410 Gone', updated_at = now()
WHERE id = :webhook_id AND disabled_at IS NULL
""")
DISABLE_OF_JOB = text("UPDATE job_webhooks SET disabled_at = now() WHERE job_id = :job_id AND disabled_at IS NULL")
PARK = text("""
UPDATE deliveries SET state = 'disabled', finished_at = now()
WHERE state = 'pending' AND (lease_until IS NULL OR lease_until <= now())
    AND CASE WHEN CAST(:webhook_id AS uuid) IS NULL THEN webhook_id IS NULL AND job_id = :job_id
        ELSE webhook_id = :webhook_id END
""")
FORGET = text("""
DELETE FROM deliveries WHERE event_id IN (
    SELECT event_id FROM deliveries WHERE finished_at < now() - make_interval(secs => :age) LIMIT :most)
""")
FORGET_SECRETS = text("DELETE FROM webhook_secrets WHERE expires_at < now()")


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that this sender may try once, at `tried_at`; `turn` is the try's number in the schedule, from 1."""

    event_id: UUID
    owner: str
    webhook_id: UUID | None
    job_id: UUID | None
    type: str
    data: dict[str, Any]
    created_at: datetime
    tried_at: datetime
    destination: str
    tries: int
    turn: int
    url: str
    keys: list[str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a try. `pause` counts while it stays pending (s); `postpones` holds back its neighbours as well."""

    state: str
    status: int | None
    response: str | None
    error: str | None
    pause: float = 0.0
    postpones: bool = False


def claim(connection: Connection, room: int, per_destination: int, per_owner: int) -> list[Due]:
    """At most `room` deliveries to try now, never more than allowed in flight at one destination or of one owner."""
    if not connection.execute(LOCK).scalar_one():
        return []
    limits = {"room": room, "per_destination": per_destination, "per_owner": per_owner, "lease": LEASE_SECONDS}
    return [Due(**row._mapping) for row in connection.execute(CLAIM, limits)]


def finish(connection: Connection, due: Due, outcome: Outcome) -> bool:
    """Note what came of it; False if it is no longer ours, and then nothing changes."""
    values = {name: getattr(outcome, name) for name in ("state", "status", "response", "error", "pause")}
    mine = connection.execute(FINISH, values | {"event_id": due.event_id, "tries": due.tries}).one_or_none()
    if mine is None:
        return False
    if outcome.state == "disabled":
        receiver = {"webhook_id": due.webhook_id, "job_id": due.job_id}
        connection.execute(DISABLE if due.webhook_id else DISABLE_OF_JOB, receiver)
        connection.execute(PARK, receiver)
    elif outcome.postpones:
        connection.execute(POSTPONE, {"destination": due.destination, "pause": outcome.pause})
    return True


def forget_old(connection: Connection, age: float) -> int:
    """Delete what ended more than `age` seconds ago, none if there is no more, and secrets that no longer sign."""
    connection.execute(FORGET_SECRETS)
    return connection.execute(FORGET, {"age": age, "most": MAX_FORGOTTEN}).rowcount
