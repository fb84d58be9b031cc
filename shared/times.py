"""Times as every answer and event writes them, wherever they come from."""

from __future__ import annotations

from datetime import UTC, datetime


def of_json(written: str) -> datetime:
    """A time that Postgres wrote into JSON: in its session's zone, and without the zeros that end a fraction."""
    return datetime.fromisoformat(written).astimezone(UTC)
