"""Webhooks and their secrets in the table (asyncpg). Every statement names the owner: a foreign id is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from shared.errors import Conflict
from shared.ids import new_id
from shared.wall import acting_for
from shared.webhooks.signing import Signing, new_secret, signing_of

COLUMNS = "id, url, events, description, created_at, updated_at, disabled_at, disabled_reason"
LOCK = "SELECT pg_advisory_xact_lock(5, hashtext($1))"
COUNT = "SELECT count(*) FROM webhooks WHERE owner = $1"
ADD = f"INSERT INTO webhooks (id, owner, url, events, description) VALUES ($1, $2, $3, $4, $5) RETURNING {COLUMNS}"
PAGE = f"SELECT {COLUMNS} FROM webhooks WHERE owner = $1 ORDER BY id DESC"
GET = f"SELECT {COLUMNS} FROM webhooks WHERE owner = $1 AND id = $2"
REMOVE = "DELETE FROM webhooks WHERE owner = $1 AND id = $2 RETURNING id"
CHANGE = f"""
UPDATE webhooks SET url = coalesce($3, url), events = coalesce($4::text[], events),
    description = coalesce($5, description), updated_at = now(),
    disabled_at = CASE $6::boolean WHEN true THEN NULL WHEN false THEN coalesce(disabled_at, now())
        ELSE disabled_at END,
    disabled_reason = CASE $6 WHEN true THEN NULL WHEN false THEN coalesce(disabled_reason, 'by its owner')
        ELSE disabled_reason END
WHERE owner = $1 AND id = $2 RETURNING {COLUMNS}
"""
# What waits for a webhook that was switched off is not sent; its owner may ask for it later.
PARK = """
UPDATE deliveries SET state = 'disabled', finished_at = now(), lease_until = NULL
WHERE owner = $1 AND webhook_id = $2 AND state = 'pending'
"""

OWN = "owner = $1 AND webhook_id IS NOT DISTINCT FROM $2"
SECRET = f"SELECT secret FROM webhook_secrets WHERE {OWN} AND expires_at IS NULL"
ADD_SECRET = """
INSERT INTO webhook_secrets (id, owner, webhook_id, secret) VALUES ($1, $2, $3, $4)
ON CONFLICT (owner, webhook_id) WHERE expires_at IS NULL DO NOTHING
"""
ADD_OWN_SECRETS = """
INSERT INTO webhook_secrets (id, owner, secret) SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[])
ON CONFLICT (owner, webhook_id) WHERE expires_at IS NULL DO NOTHING
"""
FORGET_OLDER = f"DELETE FROM webhook_secrets WHERE {OWN} AND expires_at IS NOT NULL"
RETIRE = f"""
UPDATE webhook_secrets SET expires_at = now() + make_interval(secs => $3) WHERE {OWN} AND expires_at IS NULL
"""

ADD_TO_JOBS = """
INSERT INTO job_webhooks (job_id, owner, url, events)
SELECT id, owner, url, string_to_array(events, ' ')
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS n(id, owner, url, events)
"""

FORGET_OWNER = (
    "DELETE FROM deliveries WHERE owner = $1",
    "DELETE FROM job_webhooks WHERE owner = $1",
    "DELETE FROM webhooks WHERE owner = $1",
    "DELETE FROM webhook_secrets WHERE owner = $1",
)


@dataclass(frozen=True, slots=True)
class WebhookView:
    """A webhook as its owner sees it."""

    id: UUID
    url: str
    events: list[str]
    description: str
    created_at: datetime
    updated_at: datetime
    disabled_at: datetime | None
    disabled_reason: str | None


@dataclass(frozen=True, slots=True)
class JobTarget:
    """The `webhook_url` of a job that is being submitted."""

    url: str
    events: tuple[str, ...]


class Webhooks:
    """An owner's webhooks. Where an id may be None, None means the `webhook_url` of the owner's jobs."""

    def __init__(self, pool: asyncpg.Pool, most: int) -> None:
        self._pool, self._most = pool, most

    async def add(
        self, owner: str, url: str, events: Sequence[str], description: str, signing: Signing
    ) -> tuple[WebhookView, str]:
        """The new webhook and its secret; Conflict if the owner has as many as allowed."""
        secret = new_secret(signing)
        async with acting_for(self._pool, [owner]) as connection, connection.transaction():
            await connection.execute(LOCK, owner)
            if await connection.fetchval(COUNT, owner) >= self._most:
                raise Conflict(f"You already have {self._most} webhooks.", details={"limit": self._most})
            row = await connection.fetchrow(ADD, new_id(), owner, url, list(events), description)
            await connection.execute(ADD_SECRET, new_id(), owner, row["id"], secret)
        return WebhookView(**row), secret

    async def all(self, owner: str) -> list[WebhookView]:
        """Newest first."""
        async with acting_for(self._pool, [owner]) as connection:
            return [WebhookView(**row) for row in await connection.fetch(PAGE, owner)]

    async def get(self, owner: str, webhook_id: UUID) -> WebhookView | None:
        async with acting_for(self._pool, [owner]) as connection:
            row = await connection.fetchrow(GET, owner, webhook_id)
        return WebhookView(**row) if row else None

    async def change(
        self,
        owner: str,
        webhook_id: UUID,
        *,
        url: str | None,
        events: Sequence[str] | None,
        description: str | None,
        enabled: bool | None,
    ) -> WebhookView | None:
        """Change what is not None; None if the owner has no such webhook."""
        wanted = list(events) if events is not None else None
        async with acting_for(self._pool, [owner]) as connection, connection.transaction():
            row = await connection.fetchrow(CHANGE, owner, webhook_id, url, wanted, description, enabled)
            if row is not None and row["disabled_at"] is not None:
                await connection.execute(PARK, owner, webhook_id)
        return WebhookView(**row) if row else None

    async def remove(self, owner: str, webhook_id: UUID) -> bool:
        """Delete it with its secrets and deliveries."""
        async with acting_for(self._pool, [owner]) as connection:
            return await connection.fetchval(REMOVE, owner, webhook_id) is not None

    async def secret(self, owner: str, webhook_id: UUID | None) -> str:
        """The one that signs, and that does not expire; the owner's own is made when it is first asked for."""
        async with acting_for(self._pool, [owner]) as connection:
            found: str | None = await connection.fetchval(SECRET, owner, webhook_id)
            if found is None:
                await connection.execute(ADD_SECRET, new_id(), owner, webhook_id, new_secret("hmac"))
                found = await connection.fetchval(SECRET, owner, webhook_id)
        assert found is not None
        return found

    async def rotate(self, owner: str, webhook_id: UUID | None, signing: Signing | None, overlap: float) -> str:
        """A new secret, of the old one's kind unless told otherwise; the old one signs for `overlap` seconds more."""
        async with acting_for(self._pool, [owner]) as connection, connection.transaction():
            await connection.execute(LOCK, owner)
            old: str | None = await connection.fetchval(SECRET, owner, webhook_id)
            secret = new_secret(signing or (signing_of(old) if old else "hmac"))
            await connection.execute(FORGET_OLDER, owner, webhook_id)
            await connection.execute(RETIRE, owner, webhook_id, overlap)
            await connection.execute(ADD_SECRET, new_id(), owner, webhook_id, secret)
        return secret


async def add_to_jobs(connection: asyncpg.Connection, targets: Sequence[tuple[UUID, str, JobTarget]]) -> None:
    """The webhooks of new jobs (id, owner, target), in the transaction that inserts the jobs."""
    owners = sorted({owner for _, owner, _ in targets})
    fresh = [(new_id(), owner, new_secret("hmac")) for owner in owners]
    await connection.execute(ADD_OWN_SECRETS, *map(list, zip(*fresh, strict=True)))
    rows = [(job_id, owner, target.url, " ".join(target.events)) for job_id, owner, target in targets]
    await connection.execute(ADD_TO_JOBS, *map(list, zip(*rows, strict=True)))


async def forget_owner(connection: asyncpg.Connection, owner: str) -> None:
    """An account ends: nothing more is sent for it."""
    for statement in FORGET_OWNER:
        await connection.execute(statement, owner)
