"""What is asked of a store that gives no answer."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from services.gateway.storage_watch import StorageWatch
from shared.errors import Unavailable
from shared.storage.interface import StorageError


class Hanging:
    """As a network's folder whose server is gone."""

    def __init__(self) -> None:
        self.back = threading.Event()
        self.asked = 0

    def check(self) -> None:
        self.asked += 1
        self.back.wait(30)
        if self.asked == 1:
            raise StorageError("it was away")


def test_a_store_that_hangs_holds_one_thread() -> None:
    async def story() -> None:
        store = Hanging()
        watch = StorageWatch(store)  # type: ignore[arg-type]
        for _ in range(20):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await watch.ask()
        assert store.asked == 1
        store.back.set()
        with pytest.raises(StorageError):
            await watch.ask()
        with pytest.raises(Unavailable):
            watch.require()
        await watch.ask()
        watch.require()  # who is told that it works may submit
        assert store.asked == 2

    asyncio.run(story())
