"""What the janitor forgets: sessions and tickets that ended, and attempts that no limit counts any more."""

from __future__ import annotations

from sqlalchemy import Connection, text

FORGET_SESSIONS = text("DELETE FROM sessions WHERE expires_at < now()")
FORGET_TICKETS = text("DELETE FROM stream_tickets WHERE expires_at < now()")
FORGET_ATTEMPTS = text("DELETE FROM attempts WHERE last_at < now() - interval '1 day'")


def forget_ended(connection: Connection) -> None:
    """Delete them."""
    connection.execute(FORGET_SESSIONS)
    connection.execute(FORGET_TICKETS)
    connection.execute(FORGET_ATTEMPTS)
