"""What workers write into the catalog, and what they ask of it before they load (psycopg2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from shared.family import ModelCard

COLUMNS = (
    *("title", "task", "source", "repository", "revision", "files", "size_bytes", "licence", "parameters", "dtype"),
    *("memory_bytes", "settings", "details"),
)
REPORT = text(f"""
INSERT INTO models (family, kind, name, reported_by, {", ".join(COLUMNS)})
VALUES (:family, :kind, :name, :reported_by, {", ".join(f":{column}" for column in COLUMNS)})
ON CONFLICT (family, kind, name) DO UPDATE SET {", ".join(f"{column} = excluded.{column}" for column in COLUMNS)},
    reported_by = excluded.reported_by, seen_at = now()
""").bindparams(*(bindparam(name, type_=JSONB) for name in ("files", "settings", "details")))

# A disabled model stays although its files are gone: they may come back, and it must not be enabled by that.
VANISHED = text("""
DELETE FROM models m WHERE family = :family AND NOT (kind || ' ' || name = ANY(:kept)) AND NOT disabled
    AND (reported_by = :reported_by
    OR NOT EXISTS (SELECT 1 FROM workers w WHERE w.name = m.reported_by AND w.seen_at > now() - interval '10 minutes'
                   AND w.state <> 'stopped'))
""")

NEEDS = text("SELECT memory_bytes, disabled FROM models WHERE family = :family AND kind = 'model' AND name = :name")


@dataclass(frozen=True, slots=True)
class Needs:
    """What is known of a model before it is loaded: the bytes of its weights, and whether it may be."""

    memory_bytes: int | None = None
    disabled: bool = False


def report_models(connection: Connection, worker: str, family: str, cards: Sequence[ModelCard]) -> None:
    """Say which models this worker found on its disk; what nobody alive can serve leaves the catalog."""
    for card in cards:
        connection.execute(REPORT, _row(card) | {"family": family, "reported_by": worker})
    kept = [f"{card.kind} {card.name}" for card in cards]
    connection.execute(VANISHED, {"family": family, "reported_by": worker, "kept": kept})


def needs_of(connection: Connection, family: str, name: str) -> Needs:
    """What loading this model takes; nothing is known of one that the catalog has not."""
    row = connection.execute(NEEDS, {"family": family, "name": name}).one_or_none()
    return Needs(**row._mapping) if row else Needs()


def _row(card: ModelCard) -> dict[str, Any]:
    values = {name: getattr(card, name) for name in ("kind", "name", *COLUMNS) if name != "size_bytes"}
    return values | {
        "files": [asdict(file) for file in card.files],
        "size_bytes": sum(file.size for file in card.files) if card.files else None,
        "settings": dict(card.settings),
        "details": dict(card.details),
    }
