"""The fleet as the gateway reads it (asyncpg)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

WORKERS = """
SELECT name, families, device, state, details, started_at, seen_at FROM workers
WHERE seen_at > now() - make_interval(secs => $1) AND state <> 'stopped' ORDER BY name
"""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A live worker's last report; `details` maps each family to its resident models."""

    name: str
    families: list[str]
    device: str
    state: str
    details: Mapping[str, Any]
    started_at: datetime
    seen_at: datetime


class FleetQueries:
    """Reads of the workers' reports; `alive` is how long a silent worker counts as live (s)."""

    def __init__(self, pool: asyncpg.Pool, alive: float) -> None:
        self._pool, self._alive = pool, alive

    async def workers(self) -> list[WorkerView]:
        """Live workers by name."""
        rows = await self._pool.fetch(WORKERS, self._alive)
        return [WorkerView(**{**row, "details": json.loads(row["details"])}) for row in rows]
