"""Counts requests for their owners' usage, and brings the counts to Postgres every few seconds: no request waits.

A gateway that is told to stop brings what it has; one that is killed loses at most FLUSH seconds of its counts, which
no limit depends on (those count in Redis, `limiter.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

from shared.database_faults import FAULTS
from shared.logging import get_logger
from shared.usage.days import UsageDays

log = get_logger(__name__)
FLUSH = 5.0  # seconds


class RequestTally:
    """One gateway process's counts since the last flush."""

    def __init__(self, days: UsageDays) -> None:
        self._days = days
        self._counts: Counter[str] = Counter()
        self._flushing = asyncio.Lock()
        self._stopped = asyncio.Event()
        self._failing = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._flush_until_stopped())

    async def close(self) -> None:
        """Bring the last counts."""
        self._stopped.set()
        await self._task

    def count(self, owner: str) -> None:
        """One more request of this owner."""
        self._counts[owner] += 1

    async def flush(self) -> None:
        """Bring the counts to Postgres; while it is away they wait here."""
        async with self._flushing:  # whoever asks next also waits for what is under way
            counts, self._counts = self._counts, Counter()
            if not counts:
                return
            try:
                await self._days.add_requests(counts)
                self._failing = False
            except FAULTS as error:
                self._counts.update(counts)
                if not self._failing:
                    log.warning("requests of owners cannot be added to their usage now", error=str(error))
                self._failing = True

    async def _flush_until_stopped(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH):
                    await self._stopped.wait()
            await self.flush()
