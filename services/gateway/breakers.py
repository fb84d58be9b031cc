"""Which models are paused: read again every two seconds and before a refusal."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, TypeAlias

from shared.breakers.queries import BreakerQueries, OpenBreaker
from shared.errors import ModelPaused

FRESH = 2.0  # seconds
PROBE_SECONDS = 10  # how soon to ask again while a job tries the model
REASONS = {
    "worker_lost": "crashed the workers that ran them with it",
    "model_unavailable": "found that it does not load",
}
PausedModels: TypeAlias = Mapping[tuple[str, str], OpenBreaker]


class Breakers:
    """The open breakers of all families."""

    def __init__(self, queries: BreakerQueries) -> None:
        self.queries = queries
        self._open: dict[tuple[str, str], OpenBreaker] = {}
        self._read_at = -FRESH

    async def open_now(self) -> PausedModels:
        """By family and model, as they are at this moment."""
        self._open = {(breaker.family, breaker.model): breaker for breaker in await self.queries.open()}
        self._read_at = time.monotonic()
        return self._open

    async def require(self, family: str, model: str) -> None:
        """Raises ModelPaused if no new job for this model is taken."""
        if await self.holds(family, model):
            breaker = (await self.open_now()).get((family, model))  # nothing is refused by an old list
            if breaker is not None and not breaker.admits:
                raise model_paused(breaker)

    async def holds(self, family: str, model: str | None) -> bool:
        """Whether the queued jobs of this model wait for its breaker, as of two seconds ago at most."""
        if time.monotonic() - self._read_at > FRESH:
            await self.open_now()
        return (family, model) in self._open


def model_paused(breaker: OpenBreaker) -> ModelPaused:
    """What a job for it is answered with."""
    retry_after = math.ceil(breaker.seconds) or PROBE_SECONDS
    return ModelPaused(
        f"The model {breaker.model} is paused: {told(breaker)}. Its queued jobs wait. Try again in {retry_after} s.",
        details={"family": breaker.family, "model": breaker.model, **described(breaker)},
        headers={"Retry-After": str(retry_after)},
    )


def told(breaker: OpenBreaker) -> str:
    """Why, in words."""
    why = f"{breaker.crashed_jobs} different jobs {REASONS.get(breaker.reason, breaker.reason)}"
    return why if breaker.openings == 1 else f"{why}, and {breaker.openings - 1} tried it since in vain"


def described(breaker: OpenBreaker) -> dict[str, Any]:
    """What the answers tell of it besides the model's name."""
    return {
        "state": "paused" if breaker.seconds else "half_open",
        "reason": breaker.reason,
        "crashed_jobs": breaker.crashed_jobs,
        "openings": breaker.openings,
        "opened_at": breaker.opened_at.isoformat(),
        "paused_until": breaker.paused_until.isoformat(),
    }
