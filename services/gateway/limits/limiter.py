"""Counts requests in Redis, exactly and for all gateways; in this process's memory while Redis does not answer."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from limits import RateLimitItem, RateLimitItemPerSecond, WindowStats
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError

from services.gateway.limits.tiers import KEY, Allowance, Policy
from services.gateway.redis_pool import open_pool
from shared.errors import RateLimited
from shared.logging import get_logger

log = get_logger(__name__)
Found = TypeVar("Found")
Question = Callable[[MovingWindowRateLimiter, RateLimitItem, str], Awaitable[Found]]
PATIENCE = 0.5  # seconds for an answer of Redis
CONNECTIONS = 32
AWAY = 5.0  # seconds before Redis is asked again


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of one policy, and when it is whole again or, if nothing is left, when there is some (epoch)."""

    policy: Policy
    remaining: int
    reset: float

    @property
    def seconds(self) -> int:
        return max(0, math.ceil(self.reset - time.time()))


class Limiter:
    """Moving windows: in no span of that length are there more than the quota."""

    def __init__(self, redis_url: str) -> None:
        self._pool = open_pool(redis_url, size=CONNECTIONS, turn=AWAY, answer=PATIENCE, connect=PATIENCE)
        storage = RedisStorage(
            f"async+{redis_url}",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix="atelier:limits",
            connection_pool=self._pool,  # type: ignore[arg-type]  # what it documents
        )
        self._shared, self._own = MovingWindowRateLimiter(storage), MovingWindowRateLimiter(MemoryStorage())
        self._away_until = 0.0

    async def close(self) -> None:
        await self._pool.aclose()

    async def spend(self, *allowances: Allowance) -> dict[str, str]:
        """Count a request; the headers that tell what is left. Raises RateLimited with the same headers."""
        for allowance in allowances:
            for policy in allowance.policies:
                if not await self._ask(_hit, policy, allowance.subject):
                    raise _too_many(policy, await self.standings(*allowances))
        return await self.show(*allowances)

    async def show(self, *allowances: Allowance) -> dict[str, str]:
        """The headers without counting."""
        return _headers(await self.standings(*allowances))

    async def standings(self, *allowances: Allowance) -> list[Standing]:
        """What is left of each policy."""
        found = []
        for allowance in allowances:
            for policy in allowance.policies:
                stats = await self._ask(_stats, policy, allowance.subject)
                found.append(Standing(policy, stats.remaining, stats.reset_time))
        return found

    async def _ask(self, question: Question[Found], policy: Policy, subject: str) -> Found:
        if time.monotonic() >= self._away_until:
            try:
                return await question(self._shared, _item(policy), subject)
            except StorageError as error:
                self._away_until = time.monotonic() + AWAY
                log.warning("Redis does not answer: this process counts requests by itself", error=str(error))
        return await question(self._own, _item(policy), subject)


async def _hit(limiter: MovingWindowRateLimiter, item: RateLimitItem, subject: str) -> bool:
    return await limiter.hit(item, subject)


async def _stats(limiter: MovingWindowRateLimiter, item: RateLimitItem, subject: str) -> WindowStats:
    return await limiter.get_window_stats(item, subject)


def _item(policy: Policy) -> RateLimitItemPerSecond:
    return RateLimitItemPerSecond(policy.quota, policy.seconds, namespace=policy.name)


def _too_many(policy: Policy, standings: list[Standing]) -> RateLimited:
    short = next(standing for standing in standings if standing.policy == policy)
    wait = max(1, short.seconds)
    whose = "with this key " if policy.name.startswith(KEY) else ""
    return RateLimited(
        f"Too many requests: {policy.quota} in {policy.seconds} s {whose}are allowed.",
        code="rate_limited",
        headers=_headers(standings) | {"Retry-After": str(wait)},
        details={"policy": policy.name, "limit": policy.quota, "window": policy.seconds, "retry_after": wait},
    )


def _headers(standings: list[Standing]) -> dict[str, str]:
    """000's headers for the policy with the fewest left, and the IETF draft's for all (RateLimit, -Policy)."""
    if not standings:
        return {}
    tight = min(standings, key=lambda standing: standing.remaining)
    return {
        "X-RateLimit-Limit": str(tight.policy.quota),
        "X-RateLimit-Remaining": str(tight.remaining),
        "X-RateLimit-Reset": str(math.ceil(tight.reset)),
        "RateLimit-Policy": ", ".join(f'"{s.policy.name}";q={s.policy.quota};w={s.policy.seconds}' for s in standings),
        "RateLimit": ", ".join(f'"{s.policy.name}";r={s.remaining};t={s.seconds}' for s in standings),
    }
