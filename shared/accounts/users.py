"""Users in the table (asyncpg)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import asyncpg

from shared.accounts.attempts import DELAY
from shared.errors import Conflict
from shared.ids import new_id
from shared.wall import Taken, act_for, acting_for, managing_accounts
from shared.webhooks.registry import forget_owner

Quota = Literal["stored_bytes", "gpu_seconds"]
COLUMNS = f"""
    id, username, email, full_name, roles, tier, is_active, is_verified, created_at, last_login, metadata,
    (SELECT count(*) FROM api_keys k WHERE k.user_id = users.id) AS api_key_count,
    (SELECT coalesce(sum(count), 0) FROM attempts WHERE {{own}}) AS failed_attempts,
    (SELECT max(last_at + {DELAY}) FROM attempts WHERE {{own}} AND last_at + {DELAY} > now()) AS locked_until
""".format(own="kind = 'login' AND starts_with(subject, lower(username) || ' ')")

ADD = """
INSERT INTO users (id, username, email, full_name, password_hash, roles, is_verified, tier)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
FIND = f"SELECT {COLUMNS} FROM users WHERE id = $1"
BY_NAME = "SELECT id, password_hash FROM user_of_name($1)"  # before anybody is known: migration 0006
PASSWORD = "SELECT password_hash FROM users WHERE id = $1"
REHASH = "UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2"
SET_PASSWORD = "UPDATE users SET password_hash = $2 WHERE id = $1"
CLOSE_SESSIONS = "DELETE FROM sessions WHERE user_id = $1"
SET_TIER = "UPDATE users SET tier = $2 WHERE lower(username) = lower($1) RETURNING id"
SET_QUOTA = "UPDATE users SET {quota} = $2 WHERE lower(username) = lower($1) RETURNING id"
PAGE = f"SELECT {COLUMNS} FROM users WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2"
HAS_ADMIN = "SELECT has_admin()"
LOCK_ADMINS = "SELECT id FROM users WHERE 'admin' = ANY(roles) AND is_active ORDER BY id FOR UPDATE"
REMOVE = "DELETE FROM users WHERE lower(username) = lower($1) RETURNING id"
# What nobody owns any more: queued jobs never start, running ones stop, results go with the janitor's next round.
ABANDON = """
UPDATE jobs SET deleted_at = now(), cancel_requested_at = coalesce(cancel_requested_at, now()),
    state = CASE WHEN state = 'queued' THEN 'cancelled' ELSE state END,
    finished_at = CASE WHEN state = 'queued' THEN now() ELSE finished_at END,
    purge_after = CASE WHEN state = 'running' THEN purge_after ELSE now() END
WHERE owner = $1 AND deleted_at IS NULL
"""
FORGET_USAGE = "WITH d AS (DELETE FROM usage_days WHERE owner = $1) DELETE FROM usage_requests WHERE owner = $1"

ABANDON_UPLOADS = "UPDATE uploads SET deleted_at = now() WHERE owner = $1 AND deleted_at IS NULL"


@dataclass(frozen=True, slots=True)
class UserView:
    """A user as the API shows one: never the hash. `locked_until` is when the next password may be tried."""

    id: UUID
    username: str
    email: str
    full_name: str
    roles: list[str]
    tier: str
    is_active: bool
    is_verified: bool
    created_at: datetime
    last_login: datetime | None
    metadata: dict[str, Any]
    api_key_count: int
    failed_attempts: int
    locked_until: datetime | None


@dataclass(frozen=True, slots=True)
class NewUser:
    """A user to be added; the password is hashed already."""

    username: str
    email: str
    full_name: str
    password_hash: str
    roles: tuple[str, ...] = ("user",)
    is_verified: bool = False
    tier: str = "free"


class Users:
    """Reads and writes of users."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def add(self, user: NewUser) -> UUID:
        """The new user's id; Conflict that names the field if the name or the address is taken."""
        user_id = new_id()
        try:
            async with self._of(user_id) as connection:
                await connection.execute(
                    ADD,
                    user_id,
                    user.username,
                    user.email,
                    user.full_name,
                    user.password_hash,
                    list(user.roles),
                    user.is_verified,
                    user.tier,
                )
        except asyncpg.UniqueViolationError as error:
            field = "email" if error.constraint_name == "users_email" else "username"
            raise Conflict(f"This {field} is taken.", details={"field": field}) from None
        return user_id

    async def get(self, user_id: UUID) -> UserView | None:
        async with self._of(user_id) as connection:
            row = await connection.fetchrow(FIND, user_id)
        return _view(row) if row else None

    async def page(self, before: UUID | None, limit: int) -> list[UserView]:
        """All accounts, newest first, older than `before`."""
        async with managing_accounts(self._pool) as connection:
            return [_view(row) for row in await connection.fetch(PAGE, before, limit)]

    async def sign_in_as(self, username: str) -> tuple[UUID, str] | None:
        """Id and password hash of an active user."""
        row = await self._pool.fetchrow(BY_NAME, username)
        return (row["id"], row["password_hash"]) if row else None

    async def password_hash(self, user_id: UUID) -> str | None:
        async with self._of(user_id) as connection:
            found: str | None = await connection.fetchval(PASSWORD, user_id)
        return found

    async def set_password(self, user_id: UUID, password_hash: str) -> None:
        """Set it and end every session of the user."""
        async with self._of(user_id) as connection, connection.transaction():
            # Two statements in this order: the first waits for sign-ins under way, the second sees their sessions.
            await connection.execute(SET_PASSWORD, user_id, password_hash)
            await connection.execute(CLOSE_SESSIONS, user_id)

    async def rehash(self, user_id: UUID, old: str, new: str) -> None:
        """Keep the same password under a stronger hash, unless it has changed meanwhile."""
        async with self._of(user_id) as connection:
            await connection.execute(REHASH, user_id, old, new)

    async def set_tier(self, username: str, tier: str) -> bool:
        """Give a user another tier (free, pro, enterprise); False if there is no such user. For operators only."""
        return await self._pool.fetchval(SET_TIER, username, tier) is not None

    async def set_quota(self, username: str, quota: Quota, value: float | None) -> bool:
        """Give a user a quota of their own (0 is none, None the tier's again); False if there is no such user."""
        return await self._pool.fetchval(SET_QUOTA.format(quota=f"{quota}_quota"), username, value) is not None

    async def has_admin(self) -> bool:
        return bool(await self._pool.fetchval(HAS_ADMIN))

    async def remove(self, username: str) -> UUID | None:
        """Delete a user with keys, sessions, jobs, uploads and usage; the id, or None if there is no such user.

        Raises Conflict for the last admin: nobody could undo that.
        """
        async with managing_accounts(self._pool) as connection, connection.transaction():
            admins = {row["id"] for row in await connection.fetch(LOCK_ADMINS)}
            user_id: UUID | None = await connection.fetchval(REMOVE, username)
            if user_id is not None and admins == {user_id}:
                raise Conflict("This is the last admin; make another one first.", details={"field": "name"})
            if user_id is not None:
                await act_for(connection, str(user_id))
                await forget_owner(connection, str(user_id))
                for statement in (ABANDON, ABANDON_UPLOADS, FORGET_USAGE):
                    await connection.execute(statement, str(user_id))
        return user_id

    def _of(self, user_id: UUID) -> Taken:
        return acting_for(self._pool, [str(user_id)])


def _view(row: asyncpg.Record) -> UserView:
    values = dict(row)
    return UserView(**values | {"metadata": json.loads(values["metadata"])})
