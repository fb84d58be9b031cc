"""Sessions and API keys in the table (asyncpg). Every request asks here, so what is revoked is revoked everywhere."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from shared.accounts.api_keys import KeyMaker, NewKey, split
from shared.accounts.scopes import scopes_of
from shared.accounts.tokens import Claims
from shared.errors import Conflict
from shared.ids import new_id
from shared.wall import Taken, acting_for, managing_accounts

MAX_KEYS = 10
USER = "u.id AS user_id, u.username, u.roles, u.tier, u.stored_bytes_quota, u.gpu_seconds_quota"

# Only while the password is the one that was verified. The update waits for a change of it that is under way, and that
# change waits for this session, which it then ends.
OPEN = """
WITH signed_in AS (
    UPDATE users SET last_login = now() WHERE id = $2 AND password_hash = $5 AND is_active RETURNING id)
INSERT INTO sessions (id, user_id, refresh_id, expires_at)
SELECT $1, id, $3, now() + make_interval(secs => $4) FROM signed_in RETURNING id
"""
OF_SESSION = f"""
SELECT {USER} FROM sessions s JOIN users u ON u.id = s.user_id
WHERE s.id = $1 AND s.user_id = $2 AND s.expires_at > now() AND u.is_active
"""
ROTATE = """
UPDATE sessions s SET refresh_id = $4 FROM users u
WHERE s.id = $1 AND s.user_id = $2 AND s.refresh_id = $3 AND s.expires_at > now() AND u.id = s.user_id AND u.is_active
RETURNING extract(epoch FROM s.expires_at - now()) AS seconds
"""
CLOSE = "DELETE FROM sessions WHERE id = $1"
CLOSE_ALL = "DELETE FROM sessions WHERE user_id = $1"

KEY = "id, prefix, name, scopes, created_at, expires_at, last_used_at, requests_per_minute, requests_per_day"
LOCK_USER = "SELECT 1 FROM users WHERE id = $1 FOR UPDATE"
COUNT_KEYS = "SELECT count(*) FROM api_keys WHERE user_id = $1 AND (expires_at IS NULL OR expires_at > now())"
ADD_KEY = f"""
INSERT INTO api_keys (id, user_id, prefix, secret_hash, name, scopes, expires_at, requests_per_minute, requests_per_day)
VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(days => $7), $8, $9) RETURNING {KEY}
"""
BY_NAME = f"SELECT {USER} FROM users u WHERE lower(u.username) = lower($1)"
# Before anybody is known, hence a function (migration 0006): the key and its user, while it holds.
OF_KEY = "SELECT * FROM user_of_key($1)"
USED = "UPDATE api_keys SET last_used_at = now() WHERE id = $1"
LIST_KEYS = f"SELECT {KEY} FROM api_keys WHERE user_id = $1 ORDER BY id DESC"
REMOVE_KEY = "DELETE FROM api_keys WHERE id = $1 AND user_id = $2 RETURNING id"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, and what they may do. `owner` is what their jobs carry; a session or a key tells how they came.

    Quotas are the account's own (None: its tier's, 0: none); requests are the limits of the key, if it has any.
    """

    owner: str
    username: str
    tier: str
    roles: tuple[str, ...]
    scopes: frozenset[str] = field(default_factory=frozenset)
    user_id: UUID | None = None
    session_id: UUID | None = None
    key_id: UUID | None = None
    stored_bytes_quota: int | None = None
    gpu_seconds_quota: float | None = None
    requests_per_minute: int | None = None
    requests_per_day: int | None = None


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key as its owner sees it: never its secret. `scopes` empty means all that the owner's roles grant."""

    id: UUID
    prefix: str
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    requests_per_minute: int | None
    requests_per_day: int | None


@dataclass(frozen=True, slots=True)
class KeyRules:
    """What a new key may do, for how many days, and how often."""

    name: str
    scopes: list[str]
    days: int | None = None
    requests_per_minute: int | None = None
    requests_per_day: int | None = None


class Credentials:
    """What proves who somebody is."""

    def __init__(self, pool: asyncpg.Pool, keys: KeyMaker) -> None:
        self._pool, self._keys = pool, keys

    async def open_session(self, user_id: UUID, verified_hash: str, seconds: float) -> Claims | None:
        """A new session, as the claims of its first refresh token; None if the password has changed meanwhile."""
        claims = Claims(user_id, new_id(), new_id())
        async with self._of(user_id) as connection:
            opened = await connection.fetchval(
                OPEN, claims.session_id, user_id, claims.token_id, seconds, verified_hash
            )
        return None if opened is None else claims

    async def rotate(self, claims: Claims) -> tuple[Claims, float] | None:
        """The claims of the next refresh token and the session's remaining seconds.

        None for a token that was used before: somebody else has it too, so the session ends (RFC 9700 §4.14.2).
        """
        following = Claims(claims.user_id, claims.session_id, new_id())
        async with self._of(claims.user_id) as connection:
            seconds = await connection.fetchval(
                ROTATE, claims.session_id, claims.user_id, claims.token_id, following.token_id
            )
            if seconds is None:
                await connection.execute(CLOSE, claims.session_id)
                return None
        return following, float(seconds)

    async def close_sessions(self, user_id: UUID) -> None:
        """Every token of this user is void from now on, at every gateway."""
        async with self._of(user_id) as connection:
            await connection.execute(CLOSE_ALL, user_id)

    async def of_session(self, claims: Claims) -> Principal | None:
        """Whose access token this is, while the session is open."""
        async with self._of(claims.user_id) as connection:
            row = await connection.fetchrow(OF_SESSION, claims.session_id, claims.user_id)
        if row is None:
            return None
        return _principal(row, scopes_of(row["roles"]), session_id=claims.session_id)

    async def of_key(self, text: str) -> Principal | None:
        """Whose key this is, while it holds."""
        parts = split(text)
        if parts is None:
            return None
        prefix, secret = parts
        row = await self._pool.fetchrow(OF_KEY, prefix)
        if row is None or not hmac.compare_digest(row["secret_hash"], self._keys.hash(secret)):
            return None
        if row["stale"]:
            async with self._of(row["user_id"]) as connection:
                await connection.execute(USED, row["key_id"])
        granted = scopes_of(row["roles"])
        scopes = granted & frozenset(row["scopes"]) if row["scopes"] else granted
        limits = {name: row[name] for name in ("requests_per_minute", "requests_per_day")}
        return _principal(row, scopes, key_id=row["key_id"], **limits)

    async def of_name(self, username: str) -> Principal | None:
        """The account of this name, for those who may look at others' accounts; it proves nothing."""
        async with managing_accounts(self._pool) as connection:
            row = await connection.fetchrow(BY_NAME, username)
        return _principal(row, frozenset()) if row else None

    async def add_key(self, user_id: UUID, rules: KeyRules) -> tuple[NewKey, KeyView]:
        """A new key with its secret, which is not kept; Conflict beyond MAX_KEYS."""
        key = self._keys.make()
        async with self._of(user_id) as connection, connection.transaction():
            await connection.execute(LOCK_USER, user_id)
            if await connection.fetchval(COUNT_KEYS, user_id) >= MAX_KEYS:
                raise Conflict(f"There are {MAX_KEYS} keys already; delete one first.", details={"limit": MAX_KEYS})
            row = await connection.fetchrow(
                ADD_KEY,
                new_id(),
                user_id,
                key.prefix,
                key.secret_hash,
                rules.name,
                rules.scopes,
                rules.days,
                rules.requests_per_minute,
                rules.requests_per_day,
            )
        return key, KeyView(**dict(row))

    async def keys(self, user_id: UUID) -> list[KeyView]:
        """The user's keys, newest first."""
        async with self._of(user_id) as connection:
            rows = await connection.fetch(LIST_KEYS, user_id)
        return [KeyView(**dict(row)) for row in rows]

    async def remove_key(self, user_id: UUID, key_id: UUID) -> bool:
        """Revoke a key; False if the user has no such key."""
        async with self._of(user_id) as connection:
            return await connection.fetchval(REMOVE_KEY, key_id, user_id) is not None

    def _of(self, user_id: UUID) -> Taken:
        return acting_for(self._pool, [str(user_id)])


def _principal(row: asyncpg.Record, scopes: frozenset[str], **how: Any) -> Principal:
    user_id: UUID = row["user_id"]
    return Principal(
        owner=str(user_id),
        username=row["username"],
        tier=row["tier"],
        roles=tuple(row["roles"]),
        scopes=scopes,
        user_id=user_id,
        stored_bytes_quota=row["stored_bytes_quota"],
        gpu_seconds_quota=row["gpu_seconds_quota"],
        **how,
    )
