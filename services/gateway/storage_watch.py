"""Asks the store every few seconds whether results can be kept: work that could not be stored is not accepted."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.concurrency import run_in_threadpool

from shared.errors import Unavailable
from shared.logging import get_logger
from shared.storage.interface import Storage, StorageError

log = get_logger(__name__)
PAUSE = 10.0  # seconds between two questions


class StorageWatch:
    """The store's last answer. The first question is asked before the gateway serves."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._fault: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._look()
        self._task = asyncio.create_task(self._watch())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def require(self) -> None:
        """Raise Unavailable, with what is wrong, if the store did not work when it was last asked."""
        if self._fault is not None:
            raise Unavailable(
                f"Results cannot be stored now ({self._fault}).",
                details={"storage": self._fault},
                headers={"Retry-After": str(round(PAUSE))},
            )

    async def ask(self) -> None:
        """Raise StorageError, with what is wrong, unless the store works now; what is accepted follows.

        Whoever asks meanwhile hears the same answer: a store that gives none holds one thread, however often its health
        is asked for.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._look())
        await asyncio.shield(self._asking)
        if self._fault is not None:
            raise StorageError(self._fault)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(PAUSE)
            with contextlib.suppress(StorageError):
                await self.ask()

    async def _look(self) -> None:
        try:
            await run_in_threadpool(self._storage.check)
        except StorageError as error:
            if self._fault is None:
                log.warning("the store does not work: nothing more is accepted", error=str(error))
            self._fault = str(error)
        else:
            if self._fault is not None:
                log.info("the store works again")
            self._fault = None
