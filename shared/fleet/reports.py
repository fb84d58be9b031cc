"""Workers' reports, written by the workers (psycopg2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

REPORT = text("""
INSERT INTO workers (name, families, device, state, details) VALUES (:name, :families, :device, :state, :details)
ON CONFLICT (name) DO UPDATE SET families = excluded.families, device = excluded.device, state = excluded.state,
    details = excluded.details, seen_at = now()
""").bindparams(bindparam("details", type_=JSONB))

TOUCH = text("UPDATE workers SET state = :state, seen_at = now() WHERE name = :name")
RESIDENT = text("UPDATE workers SET details = :details, device = :device WHERE name = :name").bindparams(
    bindparam("details", type_=JSONB)
)

# What a child had loaded went with it.
FORGOTTEN = text("""
UPDATE workers SET details = '{}' WHERE name = :name AND details ? 'pid' AND NOT (details->>'pid')::int = ANY(:alive)
""")

SLOTS = text("""
SELECT family, count(*) AS slots FROM workers, unnest(families) AS family
WHERE seen_at > now() - make_interval(secs => :alive) AND state NOT IN ('stopped', 'quarantined') GROUP BY family
""")

FORGET = text("DELETE FROM workers WHERE seen_at < now() - interval '1 day'")


def report(
    connection: Connection, name: str, families: Sequence[str], device: str, state: str, details: dict[str, Any]
) -> None:
    """Enter this worker, or enter it anew with nothing loaded; `state` is ready, quarantined, draining or stopped."""
    values = {"name": name, "families": list(families), "device": device, "state": state, "details": details}
    connection.execute(REPORT, values)


def touch(connection: Connection, name: str, state: str) -> bool:
    """This worker is still alive; False if it was silent for so long that it was dropped."""
    return bool(connection.execute(TOUCH, {"name": name, "state": state}).rowcount)


def report_resident(connection: Connection, name: str, details: dict[str, Any]) -> None:
    """What this worker's child `pid` has loaded; `details` holds "device", "pid" and, by family, "resident" models."""
    connection.execute(RESIDENT, {"name": name, "details": details, "device": details["device"]})


def forget_resident(connection: Connection, name: str, alive: Sequence[int]) -> None:
    """Nothing is loaded by a child that is not among the pids `alive`."""
    connection.execute(FORGOTTEN, {"name": name, "alive": list(alive)})


def slots(connection: Connection, alive: float) -> dict[str, int]:
    """Live workers by family: those that reported within `alive` seconds."""
    return {row.family: row.slots for row in connection.execute(SLOTS, {"alive": alive})}


def forget_stopped(connection: Connection) -> None:
    """Drop workers that have been silent for a day."""
    connection.execute(FORGET)
