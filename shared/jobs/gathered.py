"""Reads of single rows that wait at the same moment share one statement, as submits share one transaction.

A round starts when the last one has ended; there is no timer, so an idle gateway reads at once. A read never sees a
moment before it was asked for, because it joins the next round and not the one under way.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

import asyncpg

from shared.wall import acting_for

Key = tuple[UUID, str]  # job id, owner
Round = asyncio.Task[dict[Key, asyncpg.Record]]


class GatheredReads:
    """`statement` takes ids ($1) and owners ($2), and returns rows with `id` and `owner`."""

    def __init__(self, pool: asyncpg.Pool, statement: str) -> None:
        self._pool, self._statement = pool, statement
        self._keys: set[Key] = set()
        self._forming: Round | None = None
        self._last: Round | None = None

    async def get(self, job_id: UUID, owner: str) -> asyncpg.Record | None:
        """The owner's row or None; raises what asyncpg raises."""
        key = job_id, owner
        self._keys.add(key)
        if self._forming is None:
            self._forming = self._last = asyncio.create_task(self._read_after(self._last))
        # Shielded: a request that goes away must not take the others' round with it.
        return (await asyncio.shield(self._forming)).get(key)

    async def _read_after(self, last: Round | None) -> dict[Key, asyncpg.Record]:
        if last is not None:
            await asyncio.wait([last])
        keys, self._keys, self._forming = self._keys, set(), None
        ids, owners = zip(*keys, strict=True)
        async with acting_for(self._pool, owners) as connection:
            rows = await connection.fetch(self._statement, list(ids), list(owners))
        return {(row["id"], row["owner"]): row for row in rows}
