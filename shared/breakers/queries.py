"""Breakers and quarantines as the gateway reads them, and an operator's word that closes one (asyncpg)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg

OPEN = """
SELECT family, model, reason, crashed_jobs, openings, opened_at, paused_until, probe IS NOT NULL AS probing,
    greatest(0, extract(epoch FROM paused_until - now()))::float8 AS seconds
FROM breakers WHERE closed_at IS NULL ORDER BY family, model
"""
CLOSE = """
UPDATE breakers SET closed_at = now(), probe = NULL WHERE family = $1 AND model = $2 AND closed_at IS NULL
RETURNING family
"""
QUARANTINES = "SELECT host, device, reason, since, until FROM quarantines WHERE until > now() ORDER BY host, device"


@dataclass(frozen=True, slots=True)
class OpenBreaker:
    """A paused model; `seconds` are left of its pause. Afterwards a probe tries it, `probing` while that lasts."""

    family: str
    model: str
    reason: str
    crashed_jobs: int
    openings: int
    opened_at: datetime
    paused_until: datetime
    probing: bool
    seconds: float

    @property
    def admits(self) -> bool:
        """Whether new jobs are taken: after the pause, until one of them tries the model."""
        return not (self.seconds or self.probing)


@dataclass(frozen=True, slots=True)
class QuarantinedDevice:
    """A device that is set aside."""

    host: str
    device: str
    reason: str
    since: datetime
    until: datetime


class BreakerQueries:
    """Models and devices belong to nobody, so these rows are shown to all."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def open(self) -> list[OpenBreaker]:
        """The paused models by family and name."""
        return [OpenBreaker(**row) for row in await self._pool.fetch(OPEN)]

    async def close(self, family: str, model: str) -> bool:
        """Let the model be used again; False if it was not paused."""
        return await self._pool.fetchval(CLOSE, family, model) is not None

    async def quarantines(self) -> list[QuarantinedDevice]:
        """The devices that are set aside now."""
        return [QuarantinedDevice(**row) for row in await self._pool.fetch(QUARANTINES)]
