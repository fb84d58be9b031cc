"""What the janitor forgets of usage: old days, and counters that say nothing any more."""

from __future__ import annotations

from sqlalchemy import Connection, text

OLD = "day < (now() AT TIME ZONE 'UTC' - make_interval(secs => :age))::date"
FORGET_DAYS = text(f"DELETE FROM usage_days WHERE {OLD}")
FORGET_REQUESTS = text(f"DELETE FROM usage_requests WHERE {OLD}")
# A missing row reads as zeros. Whoever is booking at the moment keeps the row.
FORGET_ZEROS = text("""
DELETE FROM usage_now WHERE owner IN (
    SELECT owner FROM usage_now WHERE stored_bytes = 0 AND gpu_day < (now() AT TIME ZONE 'UTC')::date
    LIMIT 500 FOR UPDATE SKIP LOCKED)
""")


def forget_usage(connection: Connection, age: float) -> None:
    """Drop days older than `age` seconds, and the counters of owners who have nothing and used nothing today."""
    connection.execute(FORGET_DAYS, {"age": age})
    connection.execute(FORGET_REQUESTS, {"age": age})
    connection.execute(FORGET_ZEROS)
