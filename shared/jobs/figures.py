"""How busy a family is and how long its jobs take, over all owners: numbers only (asyncpg; migration 0010)."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

TIMINGS = "SELECT completed, failed, whole, computing, p50, p95, p99 FROM job_timings($1, $2, $3)"
COMPLETED = "SELECT jobs_completed($1)"
LIVE = "SELECT state, n FROM jobs_live() WHERE family = $1"
LOOKED_AT = 20_000  # newest jobs of all families


@dataclass(frozen=True, slots=True)
class Timings:
    """Jobs that were accepted in the last `window` seconds, all times in seconds.

    `computing` is the sum of the completed ones' last attempts, p50 to p99 are of their time from acceptance to end
    (None: nothing was completed). Unless `whole`, there were more jobs than are looked at.
    """

    window: float
    completed: int
    failed: int
    whole: bool
    computing: float
    p50: float | None
    p95: float | None
    p99: float | None


async def timings(pool: asyncpg.Pool, family: str, window: float) -> Timings:
    """Of the last `window` seconds."""
    row = await pool.fetchrow(TIMINGS, family, window, LOOKED_AT)
    return Timings(window, **dict(row))


async def completed(pool: asyncpg.Pool, family: str) -> int:
    """Jobs that were completed on all days that usage is kept for."""
    return int(await pool.fetchval(COMPLETED, family))


async def live(pool: asyncpg.Pool, family: str) -> dict[str, int]:
    """Live jobs by state: queued and running."""
    found = {row["state"]: int(row["n"]) for row in await pool.fetch(LIVE, family)}
    return {state: found.get(state, 0) for state in ("queued", "running")}
