"""Workers' reports, written by the workers (psycopg2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from shared.family import ModelCard

REPORT = text("""
INSERT INTO workers (name, families, device, state, details) VALUES (:name, :families, :device, :state, :details)
ON CONFLICT (name) DO UPDATE SET families = excluded.families, device = excluded.device, state = excluded.state,
    details = excluded.details, seen_at = now()
""").bindparams(bindparam("details", type_=JSONB))

TOUCH = text("UPDATE workers SET state = :state, seen_at = now() WHERE name = :name")
RESIDENT = text("UPDATE workers SET details = :details, device = :device WHERE name = :name").bindparams(
    bindparam("details", type_=JSONB)
)

CATALOG = text("""
INSERT INTO models (family, kind, name, title, details, reported_by)
VALUES (:family, :kind, :name, :title, :details, :reported_by)
ON CONFLICT (family, kind, name) DO UPDATE SET title = excluded.title, details = excluded.details,
    reported_by = excluded.reported_by, seen_at = now()
""").bindparams(bindparam("details", type_=JSONB))

VANISHED = text("""
DELETE FROM models m WHERE family = :family AND NOT (kind || ' ' || name = ANY(:kept)) AND (reported_by = :reported_by
    OR NOT EXISTS (SELECT 1 FROM workers w WHERE w.name = m.reported_by AND w.seen_at > now() - interval '10 minutes'
                   AND w.state <> 'stopped'))
""")

SLOTS = text("""
SELECT family, count(*) AS slots FROM workers, unnest(families) AS family
WHERE seen_at > now() - make_interval(secs => :alive) AND state <> 'stopped' GROUP BY family
""")

FORGET = text("DELETE FROM workers WHERE seen_at < now() - interval '1 day'")


def report(
    connection: Connection, name: str, families: Sequence[str], device: str, state: str, details: dict[str, Any]
) -> None:
    """Enter this worker, or enter it anew with nothing loaded; `state` is ready, draining or stopped."""
    values = {"name": name, "families": list(families), "device": device, "state": state, "details": details}
    connection.execute(REPORT, values)


def touch(connection: Connection, name: str, state: str) -> None:
    """This worker is still alive."""
    connection.execute(TOUCH, {"name": name, "state": state})


def report_resident(connection: Connection, name: str, details: dict[str, Any]) -> None:
    """What this worker's child has loaded; `details` holds "device" and, by family, "resident" models."""
    connection.execute(RESIDENT, {"name": name, "details": details, "device": details["device"]})


def report_models(connection: Connection, worker: str, family: str, cards: Sequence[ModelCard]) -> None:
    """Say which models this worker found on its disk; what nobody alive can serve leaves the catalog."""
    for card in cards:
        values = {"kind": card.kind, "name": card.name, "title": card.title, "details": dict(card.details)}
        connection.execute(CATALOG, values | {"family": family, "reported_by": worker})
    kept = [f"{card.kind} {card.name}" for card in cards]
    connection.execute(VANISHED, {"family": family, "reported_by": worker, "kept": kept})


def slots(connection: Connection, alive: float) -> dict[str, int]:
    """Live workers by family: those that reported within `alive` seconds."""
    return {row.family: row.slots for row in connection.execute(SLOTS, {"alive": alive})}


def forget_stopped(connection: Connection) -> None:
    """Drop workers that have been silent for a day."""
    connection.execute(FORGET)
