"""Wakes the dispatchers after a commit: one NOTIFY at a time, for all families that got work meanwhile.

It is not part of the submits' transactions, because a commit with a NOTIFY takes a lock that serialises all commits.
"""

from __future__ import annotations

import asyncio

import asyncpg

from shared.database_faults import FAULTS
from shared.jobs.notices import QUEUED_CHANNEL

# A notice that a crash of Postgres swallows is made good by the poll: it need not wait for the disk.
NOTIFY = """
SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, family) FROM unnest($2::text[]) AS family
"""


class Notifier:
    """Coalesces the wake-ups of one gateway process; a lost one costs the dispatcher's poll, a second."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._due: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def wake(self, families: set[str]) -> None:
        """These families have new work."""
        self._due |= families
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send())

    async def close(self) -> None:
        if self._task is not None:
            await self._task

    async def _send(self) -> None:
        while self._due:
            families, self._due = sorted(self._due), set()
            try:
                await self._pool.execute(NOTIFY, QUEUED_CHANNEL, families)
            except FAULTS:
                return
