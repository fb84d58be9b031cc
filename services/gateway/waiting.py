"""Waits for jobs: one Redis subscription and one poll a gateway process, however many requests and streams wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import redis.asyncio as redis
from redis.asyncio import Connection
from redis.exceptions import RedisError

from shared.database_faults import FAULTS
from shared.events import CHANGED, channel, decode_progress
from shared.jobs.queries import JobQueries
from shared.jobs.states import LIVE
from shared.logging import get_logger

log = get_logger(__name__)
POLL = 1.0  # seconds between two looks at the rows of all awaited jobs: the net under lost messages
PAUSE = 0.2  # seconds before another connection is tried


class Watch:
    """What one waiter hears of its job: `progress` is the newest message; `changed` is set by every news, and when the
    client has `left`.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.progress: dict[str, Any] | None = None
        self.row_moved = False
        self.left = False

    def tell(self, progress: dict[str, Any] | None) -> None:
        """Something happened; without progress it is the row that moved."""
        if progress is None:
            self.row_moved = True
        else:
            self.progress = progress
        self.changed.set()


class Waiting:
    """The process's one subscription. Only `_listen` opens its connection: redis-py's PubSub lets everybody who
    subscribes connect, and of two who do so at once one holds a connection of the pool for ever, or fails.
    """

    def __init__(self, client: redis.Redis, queries: JobQueries) -> None:
        self._client, self._queries = client, queries
        self._watches: dict[UUID, set[Watch]] = {}
        self._owners: dict[UUID, str] = {}
        self._states: dict[UUID, str] = {}
        self._line: Connection | None = None  # None while Redis is away
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._poll())]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @asynccontextmanager
    async def watch(self, job_id: UUID, owner: str) -> AsyncIterator[Watch]:
        """Hear of this job of its owner's from now on; read its row after entering: nothing falls in between."""
        watch = Watch()
        self._owners[job_id] = owner
        watchers = self._watches.setdefault(job_id, set())
        watchers.add(watch)
        try:
            if len(watchers) == 1:
                await self._say("SUBSCRIBE", job_id)
            yield watch
        finally:
            watchers.discard(watch)
            if not watchers and self._watches.get(job_id) is watchers:
                del self._watches[job_id], self._owners[job_id]
                self._states.pop(job_id, None)
                await self._say("UNSUBSCRIBE", job_id)

    def wake_all(self) -> None:
        """Let every waiter look around (from a signal handler: the loop is woken too)."""
        for watches in list(self._watches.values()):
            for watch in watches:
                self._loop.call_soon_threadsafe(watch.changed.set)

    async def announce(self, job_id: UUID) -> None:
        """Tell everybody who waits for this job, in any gateway, that its row has moved."""
        await self._try(self._client.publish(channel(job_id), CHANGED))

    async def _try(self, command: Any) -> None:
        with contextlib.suppress(RedisError, OSError):  # the poll goes on without Redis
            await command

    async def _say(self, command: str, job_id: UUID) -> None:
        """Without a connection there is nothing to say: the next one asks for all that is awaited then."""
        if self._line is not None and self._line.is_connected:
            await self._try(self._line.send_command(command, channel(job_id), check_health=False))

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(RedisError, OSError):
                async with self._connected() as line:
                    while True:
                        news = await line.read_response(timeout=POLL, disconnect_on_error=False, push_request=True)
                        if news is not None and news[0] == b"message":
                            self._hear(news[1], news[2])
            await asyncio.sleep(PAUSE)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        pool = self._client.connection_pool
        self._line = line = await pool.get_connection()
        try:
            if self._watches:
                await line.send_command("SUBSCRIBE", *map(channel, self._watches), check_health=False)
            yield line
        finally:
            self._line = None
            await line.disconnect(nowait=True)  # it is subscribed still
            await pool.release(line)

    def _hear(self, place: bytes, message: bytes) -> None:
        job_id = UUID(place.decode().rsplit(":", 1)[1])
        progress = None if message == CHANGED else decode_progress(message)
        for watch in self._watches.get(job_id, ()):
            watch.tell(progress)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL)
            if not self._watches:
                continue
            try:
                states = await self._queries.states(dict(self._owners))
            except FAULTS as error:
                log.warning("cannot read awaited jobs", error=str(error))
                continue
            for job_id, state in states.items():
                if job_id not in self._watches:  # nobody waits any more
                    continue
                if self._states.get(job_id) != state or state not in LIVE:
                    for watch in self._watches.get(job_id, ()):
                        watch.tell(None)
                self._states[job_id] = state
