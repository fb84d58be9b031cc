"""Puts an owner's usage together: the days from the tables, what is left from where it is counted."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime

from services.gateway.limits.limiter import Standing
from services.gateway.limits.tiers import allowances_of, quotas_of
from services.gateway.state import GatewayState
from services.gateway.usage.schemas import (
    DayQuota,
    JobCounts,
    Limits,
    Quota,
    RequestLimit,
    Totals,
    Usage,
    Used,
    UsedDay,
)
from shared.accounts.credentials import Principal
from shared.usage.days import FamilyDay
from shared.usage.quotas import Booked, booked
from shared.wall import acting_for


async def booked_by(state: GatewayState, owner: str) -> Booked:
    """What the owner has booked now, by the database's clock."""
    async with acting_for(state.read_pool, [owner]) as connection:
        return (await booked(connection, [owner]))[owner]


async def usage_of(
    state: GatewayState, principal: Principal, address: str, now: Booked, first: date, last: date
) -> Usage:
    """The days from `first` to `last` (both included), their sums, and the limits of this moment."""
    await state.request_tally.flush()
    requests = await state.usage.requests(principal.owner, first, last)
    days = _days(requests, await state.usage.jobs(principal.owner, first, last))
    families: dict[str, Used] = {}
    for day in days:
        for family, used in day.families.items():
            families[family] = _sum([families.get(family, Used()), used])
    whole = _sum(families.values())
    totals = Totals(**dict(whole), requests=sum(requests.values()), families=families)
    limits = await _limits(state, principal, address, now)
    return Usage(owner=principal.username, first=first, last=last, totals=totals, days=days, limits=limits)


def _days(requests: dict[date, int], rows: list[FamilyDay]) -> list[UsedDay]:
    families: dict[date, dict[str, Used]] = {day: {} for day in requests}
    for row in rows:
        counts = JobCounts(completed=row.completed, failed=row.failed, cancelled=row.cancelled, expired=row.expired)
        used = Used(jobs=counts, gpu_seconds=round(row.gpu_seconds, 3), produced_bytes=row.produced_bytes)
        families.setdefault(row.day, {})[row.family] = used
    return [
        UsedDay(**dict(_sum(found.values())), day=day, requests=requests.get(day, 0), families=found)
        for day, found in sorted(families.items())
    ]


def _sum(parts: Iterable[Used]) -> Used:
    parts = list(parts)
    names = JobCounts.model_fields
    return Used(
        jobs=JobCounts(**{name: sum(getattr(part.jobs, name) for part in parts) for name in names}),
        gpu_seconds=round(sum(part.gpu_seconds for part in parts), 3),
        produced_bytes=sum(part.produced_bytes for part in parts),
    )


async def _limits(state: GatewayState, principal: Principal, address: str, now: Booked) -> Limits:
    quotas, live = quotas_of(principal, state.settings), await state.usage.live_jobs(principal.owner)
    standings: list[Standing] = []
    if state.limiter is not None:
        standings = await state.limiter.standings(*allowances_of(principal, address, state.settings))
    return Limits(
        stored_bytes=_quota(now.stored_bytes, quotas.stored_bytes),
        upload_bytes=_quota(await state.uploads.table.stored(principal.owner), state.settings.max_owner_upload_bytes),
        gpu_seconds=DayQuota(**dict(_quota(round(now.gpu_seconds, 3), quotas.gpu_seconds)), resets_at=now.midnight),
        live_jobs=_quota(live, state.settings.max_live_jobs),
        requests=[
            RequestLimit(
                name=standing.policy.name,
                limit=standing.policy.quota,
                left=standing.remaining,
                window=standing.policy.seconds,
                resets_at=datetime.fromtimestamp(standing.reset, UTC),
            )
            for standing in standings
        ],
    )


def _quota(used: float, limit: float) -> Quota:
    return Quota(used=used, limit=limit or None, left=max(0, limit - used) if limit else None)
