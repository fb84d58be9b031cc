"""Tickets for event streams (asyncpg): a browser's EventSource sends no headers, and an address is no place for a key.

A ticket serves once, for one job of its owner, within a minute, at any gateway. Only its hash is kept; it ends with
the session or key that asked for it.
"""

from __future__ import annotations

import hashlib
import secrets
from uuid import UUID

import asyncpg

from shared.accounts.attempts import Window
from shared.accounts.credentials import Principal
from shared.wall import acting_for

SECONDS = 60
TICKETS = Window("stream_ticket", 300, 60)  # of an owner

ADD = """
INSERT INTO stream_tickets (ticket_hash, job_id, owner, session_id, key_id, expires_at)
VALUES ($1, $2, $3, $4, $5, now() + make_interval(secs => $6))
"""
REDEEM = "SELECT owner FROM owner_of_ticket($1, $2)"  # before anybody is known, hence a function: migration 0006


class StreamTickets:
    """Gives tickets out and takes them in."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def issue(self, job_id: UUID, principal: Principal) -> str:
        """A new ticket; that the job is the principal's, the caller has seen."""
        ticket = secrets.token_urlsafe(32)
        who = (principal.owner, principal.session_id, principal.key_id)
        async with acting_for(self._pool, [principal.owner]) as connection:
            await connection.execute(ADD, _hash(ticket), job_id, *who, SECONDS)
        return ticket

    async def redeem(self, ticket: str, job_id: UUID) -> str | None:
        """The owner whose ticket for this job it is; None for any other text, and from the second time on."""
        owner: str | None = await self._pool.fetchval(REDEEM, _hash(ticket), job_id)
        return owner


def _hash(ticket: str) -> bytes:
    # 256 random bits need no slow hash and no pepper.
    return hashlib.sha256(ticket.encode()).digest()
