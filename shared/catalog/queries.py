"""The catalog as the gateway reads it, and the little that it writes there (asyncpg)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from shared.wall import acting_for

MODELS = """
SELECT family, kind, name, title, task, source, repository, revision, files, size_bytes, licence, parameters, dtype,
    memory_bytes, settings, disabled, details, seen_at
FROM models ORDER BY family, kind, name
"""
# Over all owners, hence a function (migration 0007).
FETCHES = "SELECT name, operation, state, progress, error_code, created_at FROM model_fetches()"
LAST_FETCH = """
SELECT operation, state, input FROM jobs
WHERE owner = $1 AND family = 'models' AND operation IN ('models.download', 'models.import') AND input->>'name' = $2
    AND deleted_at IS NULL
ORDER BY id DESC LIMIT 1
"""
DISABLE = "UPDATE models SET disabled = $4 WHERE family = $1 AND kind = $2 AND name = $3"
REMOVE = "DELETE FROM models WHERE family = $1 AND kind = $2 AND name = $3"


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model or adapter that some worker can serve; see `shared.catalog.table.CatalogModel`."""

    family: str
    kind: str
    name: str
    title: str
    task: str | None
    source: str
    repository: str | None
    revision: str | None
    files: Sequence[Mapping[str, Any]]
    size_bytes: int | None
    licence: str | None
    parameters: int | None
    dtype: str | None
    memory_bytes: int | None
    settings: Mapping[str, Any]
    disabled: bool
    details: Mapping[str, Any]
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class FetchView:
    """The last job, whoever's, that was to bring a model of this name here: its state, progress and error code."""

    name: str
    operation: str
    state: str
    progress: Mapping[str, Any] | None
    error_code: str | None
    created_at: datetime


class CatalogQueries:
    """Models belong to nobody; the jobs that fetch them have owners."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def models(self) -> list[ModelView]:
        """Everything that workers reported, whether one runs at this moment or not."""
        return [_model(row) for row in await self._pool.fetch(MODELS)]

    async def fetches(self) -> dict[str, FetchView]:
        """By name, the last download or import of each model, if it still has something to say."""
        rows = await self._pool.fetch(FETCHES)
        return {
            row["name"]: FetchView(**{**row, "progress": json.loads(row["progress"]) if row["progress"] else None})
            for row in rows
        }

    async def last_fetch(self, owner: str, name: str) -> tuple[str, str, dict[str, Any]] | None:
        """Operation, state and input of the owner's last download or import of this name."""
        async with acting_for(self._pool, [owner]) as connection:
            row = await connection.fetchrow(LAST_FETCH, owner, name)
        return (row["operation"], row["state"], json.loads(row["input"])) if row else None

    async def set_disabled(self, model: ModelView, disabled: bool) -> None:
        """Let nobody use this model, or everybody again."""
        await self._pool.execute(DISABLE, model.family, model.kind, model.name, disabled)

    async def remove(self, model: ModelView) -> None:
        """The model's files are gone: so is its row, before the worker says so itself."""
        await self._pool.execute(REMOVE, model.family, model.kind, model.name)


def _model(row: asyncpg.Record) -> ModelView:
    return ModelView(**{**row, **{name: json.loads(row[name]) for name in ("files", "settings", "details")}})
