"""A moment reads the same wherever it is told: in a column, in JSON that Postgres wrote, in an event."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from services.coordinator.webhook_sender import payload
from shared.database import open_database
from shared.jobs.records import read
from shared.webhooks.outbox import Due

MOMENTS = [
    "2026-11-22T08:56:21.90658Z",
    "2026-11-22T08:56:21.5Z",
    "2026-11-22T08:56:21Z",
    "2026-11-22T08:56:21.000001Z",
]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns"])
def test_a_moment_in_json_is_told_like_the_columns(database_url: str, moment: str, zone: str) -> None:
    engine = open_database(database_url, pool_size=1)
    with engine.begin() as db:
        db.execute(text(f"SET LOCAL TIME ZONE '{zone}'"))
        column, written = db.execute(
            text("SELECT CAST(:t AS timestamptz), to_jsonb(CAST(:t AS timestamptz))"), {"t": moment}
        ).one()
    engine.dispose()
    told = column.astimezone(UTC).isoformat()
    entry = read({"number": 1, "started_at": written, "ended_at": written})
    assert (entry["number"], entry["started_at"].isoformat(), entry["ended_at"].isoformat()) == (1, told, told)
    event = payload(_due({"created_at": written, "started_at": None, "finished_at": written}), "")
    assert event.count(f'"{told}"'.encode()) == 2
    assert b'"started_at":null' in event


def test_an_event_without_a_job_has_no_times_to_tell() -> None:
    assert b'"data":{"hello":1}' in payload(_due({"hello": 1}), "")


def _due(data: dict[str, object]) -> Due:
    moment = datetime(2026, 11, 22, tzinfo=UTC) + timedelta(seconds=1)
    return Due(UUID(int=1), "ann", None, None, "job.completed", data, moment, moment, "", 1, 1, "https://a.example", [])
