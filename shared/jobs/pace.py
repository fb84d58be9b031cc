"""How soon a family has room again, over all owners (asyncpg; migration 0013).

Whoever is refused asks, and that is when there is no time to spare: an answer serves for a second, whoever asks.
"""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass

import asyncpg

from shared.fleet import ALIVE_SECONDS

PACE = "SELECT seconds, workers, queued FROM job_pace($1, $2)"
KEPT = 1.0  # seconds
SHORTEST, LONGEST = 1, 600  # seconds
JITTER = 0.1  # those who are refused together shall not come back together


@dataclass(frozen=True, slots=True)
class Pace:
    """What a job of the family holds a worker for on average (seconds; None: none has ended since yesterday), live
    workers of the family, and its queued jobs.
    """

    seconds: float | None
    workers: int
    queued: int

    def seconds_until(self, excess: int) -> int:
        """Until so many jobs have ended, about; without workers nobody knows."""
        expected = excess * (self.seconds or 0.0) / self.workers if self.workers else math.inf
        told = math.ceil(min(LONGEST, expected)) * random.uniform(1 - JITTER, 1 + JITTER)
        return min(LONGEST, max(SHORTEST, round(told)))


class Paces:
    """Each family's pace, at most a second old."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._asked: dict[str, tuple[float, asyncio.Task[Pace]]] = {}

    async def of(self, family: str) -> Pace:
        """Raises what asyncpg raises."""
        now = asyncio.get_running_loop().time()
        asked_at, asking = self._asked.get(family, (-math.inf, None))
        if asking is None or now - asked_at > KEPT or (asking.done() and asking.exception()):
            asking = asyncio.create_task(self._ask(family))
            self._asked[family] = now, asking
        return await asyncio.shield(asking)

    async def _ask(self, family: str) -> Pace:
        return Pace(**dict(await self._pool.fetchrow(PACE, family, ALIVE_SECONDS)))
