"""Reads of single rows that wait at the same moment share one statement, as submits share one transaction.

A round starts when the last one has ended; there is no timer, so an idle gateway reads at once. A read never sees a
moment before it was asked for, because it joins the next round and not the one under way.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

import asyncpg

Key = tuple[UUID, str]  # job id, owner


class GatheredReads:
    """`statement` takes ids ($1) and owners ($2), and returns rows with `id` and `owner`."""

    def __init__(self, pool: asyncpg.Pool, statement: str) -> None:
        self._pool, self._statement = pool, statement
        self._waiting: list[tuple[Key, asyncio.Future[asyncpg.Record | None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def get(self, job_id: UUID, owner: str) -> asyncpg.Record | None:
        """The owner's row or None; raises what asyncpg raises."""
        outcome: asyncio.Future[asyncpg.Record | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(((job_id, owner), outcome))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        return await outcome

    async def _drain(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            rows: dict[Key, asyncpg.Record] = {}
            failure: Exception | None = None
            try:
                rows = await self._read({key for key, _ in batch})
            except Exception as error:  # each reader raises it
                failure = error
            for key, outcome in batch:
                if outcome.done():  # its request was cancelled
                    continue
                if failure is not None:
                    outcome.set_exception(failure)
                else:
                    outcome.set_result(rows.get(key))

    async def _read(self, keys: set[Key]) -> dict[Key, asyncpg.Record]:
        ids, owners = zip(*keys, strict=True)
        rows = await self._pool.fetch(self._statement, list(ids), list(owners))
        return {(row["id"], row["owner"]): row for row in rows}
