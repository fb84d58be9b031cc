"""The catalog as the gateway reads it, and the one thing it says there (asyncpg)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

MODELS = """
SELECT family, kind, name, title, task, source, repository, revision, files, size_bytes, licence, parameters, dtype,
    memory_bytes, settings, disabled, details, seen_at
FROM models ORDER BY family, kind, name
"""
# Over all owners, hence a function (migration 0007).
FETCHES = "SELECT name, operation, state, progress, error_code, created_at FROM model_fetches()"
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
    """Reads of the models table; models belong to nobody, so none of these names an owner."""

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

    async def set_disabled(self, model: ModelView, disabled: bool) -> None:
        """Let nobody use this model, or everybody again."""
        await self._pool.execute(DISABLE, model.family, model.kind, model.name, disabled)

    async def remove(self, model: ModelView) -> None:
        """The model's files are gone: so is its row, before the worker says so itself."""
        await self._pool.execute(REMOVE, model.family, model.kind, model.name)


def _model(row: asyncpg.Record) -> ModelView:
    return ModelView(**{**row, **{name: json.loads(row[name]) for name in ("files", "settings", "details")}})
