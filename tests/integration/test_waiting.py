"""The one connection on which a gateway hears of the jobs that are awaited, whatever becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
import uvloop
from redis.asyncio import Redis

from services.gateway import waiting
from services.gateway.redis_pool import open_pool
from services.gateway.waiting import Waiting
from shared.events import CHANGED, channel
from shared.ids import new_id
from tests.integration.test_accounts import execute
from tests.platform import Platform

SIZE = 4  # connections of the pool
RUNNING = "UPDATE jobs SET state = 'running', attempt = 1, lease_expires_at = now() + interval '60 s' WHERE id = %s"


class NoRows:
    """Of the database nothing is heard, so that the news can only come from Redis."""

    async def states(self, owners: Mapping[UUID, str]) -> dict[UUID, str]:
        return {}


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[Waiting, Redis]]:
    client = Redis.from_pool(open_pool(url, size=SIZE, turn=1, answer=5, connect=1))
    awaited = Waiting(client, NoRows())  # type: ignore[arg-type]
    awaited.start()
    try:
        yield awaited, client
    finally:
        await awaited.close()
        await client.aclose()


def run(story: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())  # type: ignore[arg-type]


async def hears(awaited: Waiting, client: Redis) -> bool:
    """Whether news of a job reach who waits for it."""
    job_id = new_id()
    async with awaited.watch(job_id, "ada") as watch:
        for _ in range(20):
            await client.publish(channel(job_id), CHANGED)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await watch.changed.wait()
                    return True
    return False


def test_a_crowd_that_comes_at_once_shares_one_connection(redis_url: str) -> None:
    async def story() -> None:
        async with opened(redis_url) as (awaited, client):

            async def wait() -> None:
                async with awaited.watch(new_id(), "ada"):
                    await asyncio.sleep(0.2)

            await asyncio.gather(*(wait() for _ in range(5 * SIZE)))
            assert len(client.connection_pool._in_use_connections) == 1
            assert await client.ping()
            assert await hears(awaited, client)

    run(story)


def test_a_connection_that_is_cut_is_nobodys_fault(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cut again and again while others come and go: none of them fails, none is kept, and news come again."""
    monkeypatch.setattr(waiting, "PAUSE", 0.01)

    async def story() -> None:
        loop = asyncio.get_running_loop()
        async with opened(redis_url) as (awaited, client), Redis.from_url(redis_url) as operator:
            until = loop.time() + 3

            async def come_and_go() -> None:
                while loop.time() < until:
                    async with awaited.watch(new_id(), "ada"):
                        await asyncio.sleep(random.random() * 0.02)

            async def cut() -> None:
                while loop.time() < until:
                    await asyncio.sleep(random.random() * 0.05)
                    await operator.client_kill_filter(_type="pubsub")

            await asyncio.gather(cut(), *(come_and_go() for _ in range(30)))
            assert not awaited._watches
            assert await hears(awaited, client)
            assert len(client.connection_pool._in_use_connections) == 1

    run(story)


def test_who_leaves_while_redis_is_away_is_forgotten() -> None:
    async def story() -> None:
        async with opened("redis://127.0.0.1:9") as (awaited, _):

            async def wait() -> None:
                async with awaited.watch(new_id(), "ada"):
                    await asyncio.sleep(60)

            tasks = [asyncio.create_task(wait()) for _ in range(20)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert not awaited._watches

    run(story)


def test_a_stream_tells_of_the_start_without_redis(environment: dict[str, str], tmp_path: Path) -> None:
    platform = Platform(environment | {"REDIS_URL": "redis://127.0.0.1:9"}, tmp_path)
    try:
        job_id = platform.start("gateway").submit()
        with platform.client.stream("GET", f"/status/{job_id}/events", timeout=10) as stream:
            statuses = (json.loads(line[6:])["status"] for line in stream.iter_lines() if line.startswith("data: "))
            assert next(statuses) == "queued"
            execute(environment, RUNNING, job_id)
            assert next(statuses) == "running"
    finally:
        platform.close()
