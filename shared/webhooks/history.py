"""The deliveries that owners see, and may ask for again (asyncpg)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from shared.wall import acting_for
from shared.webhooks.events import CHANNEL, TEST_EVENT
from shared.webhooks.registry import OWN

COLUMNS = """event_id, job_id, type, state, url, tries, created_at, tried_at, finished_at, status, response, error,
CASE WHEN state = 'pending' THEN next_at END AS next_at"""

PAGE = f"""
SELECT {COLUMNS} FROM deliveries
WHERE {OWN} AND ($3::text[] IS NULL OR state = ANY($3)) AND ($4::uuid IS NULL OR job_id = $4)
    AND ($5::uuid IS NULL OR (created_at, event_id) < (
        SELECT created_at, event_id FROM deliveries WHERE {OWN} AND event_id = $5))
ORDER BY created_at DESC, event_id DESC LIMIT $6
"""
# From the beginning of the schedule, with the same event_id. One that is being tried at this moment goes on with that;
# progress that was never told is too old to begin with.
AGAIN = f"""
UPDATE deliveries SET state = 'pending', finished_at = NULL, next_at = now(), tries_before = tries
WHERE {OWN} AND (lease_until IS NULL OR lease_until < now()) AND (type <> 'job.progress' OR tries > 0) AND """
ONE_AGAIN = AGAIN + f"event_id = $3 RETURNING {COLUMNS}"
ONE = f"SELECT {COLUMNS} FROM deliveries WHERE {OWN} AND event_id = $3"
RANGE_AGAIN = (
    AGAIN
    + f"""event_id IN (
    SELECT event_id FROM deliveries
    WHERE {OWN} AND state = ANY($3) AND created_at >= $4 AND ($5::timestamptz IS NULL OR created_at < $5)
    ORDER BY created_at, event_id LIMIT $6 FOR UPDATE SKIP LOCKED)"""
)
TEST = f"""
INSERT INTO deliveries (owner, webhook_id, type, destination, data)
SELECT owner, id, '{TEST_EVENT}', id::text, jsonb_build_object('webhook_id', id) FROM webhooks
WHERE owner = $1 AND id = $2 AND disabled_at IS NULL RETURNING {COLUMNS}
"""
WAKE = f"SELECT pg_notify('{CHANNEL}', '')"


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """A delivery as its owner sees it. `url` is set for the `webhook_url` of a job."""

    event_id: UUID
    job_id: UUID | None
    type: str
    state: str
    url: str | None
    tries: int
    created_at: datetime
    tried_at: datetime | None
    finished_at: datetime | None
    status: int | None
    response: str | None
    error: str | None
    next_at: datetime | None


class Deliveries:
    """An owner's deliveries; webhook None means those of the `webhook_url` of jobs."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def page(
        self,
        owner: str,
        webhook_id: UUID | None,
        *,
        states: Sequence[str] | None,
        job_id: UUID | None,
        before: UUID | None,
        limit: int,
    ) -> list[DeliveryView]:
        """Newest first, older than `before`."""
        async with acting_for(self._pool, [owner]) as connection:
            rows = await connection.fetch(PAGE, owner, webhook_id, states, job_id, before, limit)
        return [DeliveryView(**row) for row in rows]

    async def test(self, owner: str, webhook_id: UUID) -> DeliveryView | None:
        """An event that only says that it arrived; None if the webhook is unknown or disabled."""
        async with acting_for(self._pool, [owner]) as connection:
            return await _woken(connection, await connection.fetchrow(TEST, owner, webhook_id))

    async def again(self, owner: str, webhook_id: UUID | None, event_id: UUID) -> DeliveryView | None:
        """Send one again, now; None if it is unknown."""
        async with acting_for(self._pool, [owner]) as connection:
            row = await _woken(connection, await connection.fetchrow(ONE_AGAIN, owner, webhook_id, event_id))
            if row is None:  # unknown, or under way
                found = await connection.fetchrow(ONE, owner, webhook_id, event_id)
                return DeliveryView(**found) if found else None
        return row

    async def range_again(
        self,
        owner: str,
        webhook_id: UUID | None,
        states: Sequence[str],
        since: datetime,
        until: datetime | None,
        limit: int,
    ) -> int:
        """Send again, now, the oldest `limit` of those made in a span of time; how many there were."""
        async with acting_for(self._pool, [owner]) as connection:
            done: str = await connection.execute(RANGE_AGAIN, owner, webhook_id, list(states), since, until, limit)
            await connection.execute(WAKE)
        return int(done.rpartition(" ")[2])


async def _woken(connection: asyncpg.Connection, row: asyncpg.Record | None) -> DeliveryView | None:
    if row is None:
        return None
    await connection.execute(WAKE)
    return DeliveryView(**row)
