"""Counts what must not be tried too often, in Postgres: exact over all gateways, and gone when nobody tries.

A password of one account from one address: five failures are free, then each costs a delay of 1, 2, 4 … 60 s. The
account is never locked for longer, or a stranger could lock its owner out. An attempt counts before the password is
looked at, so that many at once are no more than one after the other.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

import asyncpg

from shared.errors import RateLimited

FREE, LONGEST = 5, 60  # failures, seconds
DELAY = f"make_interval(secs => CASE WHEN count < {FREE} THEN 0 ELSE least({LONGEST}, 2 ^ (count - {FREE})) END)"
FORGET = "interval '1 hour'"

SLOWED = f"""
INSERT INTO attempts (kind, subject, count) VALUES ($1, $2, 1)
ON CONFLICT (kind, subject) DO UPDATE SET last_at = now(),
    count = CASE WHEN attempts.last_at < now() - {FORGET} THEN 1 ELSE least(attempts.count + 1, 100) END
WHERE now() >= attempts.last_at + {DELAY.replace("count", "attempts.count")}
RETURNING count
"""
SLOWED_FOR = f"SELECT extract(epoch FROM last_at + {DELAY} - now()) FROM attempts WHERE kind = $1 AND subject = $2"
WINDOWED = """
INSERT INTO attempts (kind, subject, count) VALUES ($1, $2, 1)
ON CONFLICT (kind, subject) DO UPDATE SET last_at = now(),
    count = CASE WHEN attempts.first_at < now() - make_interval(secs => $4) THEN 1 ELSE attempts.count + 1 END,
    first_at = CASE WHEN attempts.first_at < now() - make_interval(secs => $4) THEN now() ELSE attempts.first_at END
WHERE attempts.count < $3 OR attempts.first_at < now() - make_interval(secs => $4)
RETURNING count
"""
WINDOWED_FOR = """
SELECT extract(epoch FROM first_at + make_interval(secs => $3) - now()) FROM attempts WHERE kind = $1 AND subject = $2
"""
CLEAR = "DELETE FROM attempts WHERE kind = $1 AND subject = $2"
GIVE_BACK = "UPDATE attempts SET count = count - 1 WHERE kind = $1 AND subject = $2 AND count > 0"


@dataclass(frozen=True, slots=True)
class Window:
    """At most `limit` in `seconds`."""

    kind: str
    limit: int
    seconds: float


PASSWORDS_OF_ADDRESS = Window("login_address", 30, 900)


class Attempts:
    """All raise RateLimited with Retry-After when it is too early."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def password(self, username: str, address: str) -> None:
        """A password is about to be tried."""
        await self.within(PASSWORDS_OF_ADDRESS, address)
        subject = _account(username, address)
        if await self._pool.fetchval(SLOWED, "login", subject) is None:
            raise _too_early(await self._pool.fetchval(SLOWED_FOR, "login", subject))

    async def succeeded(self, username: str, address: str) -> None:
        """It was the right one."""
        await self._pool.execute(CLEAR, "login", _account(username, address))
        await self._pool.execute(GIVE_BACK, PASSWORDS_OF_ADDRESS.kind, address)

    async def within(self, window: Window, subject: str) -> None:
        """Something is about to be tried that a window limits."""
        if await self._pool.fetchval(WINDOWED, window.kind, subject, window.limit, window.seconds) is None:
            raise _too_early(await self._pool.fetchval(WINDOWED_FOR, window.kind, subject, window.seconds))


def network_of(address: str) -> str:
    """Whom an address stands for: IPv6 customers hold 2^64 of them."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
    return str(found)


def _account(username: str, address: str) -> str:
    return f"{username.lower()} {address}"  # names hold no spaces


def _too_early(seconds: float | None) -> RateLimited:
    wait = max(1, round(seconds or 0) + 1)
    return RateLimited(
        "Too many attempts; try again later.",
        code="too_many_attempts",
        headers={"Retry-After": str(wait)},
        details={"retry_after": wait},
    )
