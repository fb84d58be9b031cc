"""The gateway's connections to Redis on its event loop."""

from __future__ import annotations

import asyncio
import errno

import pytest
import uvloop
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as ConnectionLost

from services.gateway.redis_pool import open_pool


def test_a_lost_connection_is_told_as_such_and_replaced(redis_url: str) -> None:
    """It breaks between two questions, and before anybody has read of it."""

    async def story() -> None:
        pool = open_pool(redis_url, size=1, turn=1, answer=5, connect=5)
        async with Redis.from_pool(pool) as client:
            connection = await pool.get_connection()
            connection._writer.transport.abort()
            with pytest.raises(ConnectionLost):
                await connection.send_command("PING")
            await pool.release(connection)
            assert await client.ping()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())


def test_a_connection_that_leads_nowhere_is_no_silence(redis_url: str) -> None:
    """Who waits for news of it would ask again and again without a pause, and take all of the process's time."""

    async def story() -> None:
        pool = open_pool(redis_url, size=1, turn=1, answer=5, connect=5)
        async with Redis.from_pool(pool):
            connection = await pool.get_connection()
            await connection.send_command("SUBSCRIBE", "news")
            asked = {"disconnect_on_error": False, "push_request": True}
            assert (await connection.read_response(timeout=30, **asked))[0] == b"subscribe"
            assert await connection.read_response(timeout=0.05, **asked) is None
            connection._reader.set_exception(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))
            with pytest.raises(ConnectionLost):
                await connection.read_response(timeout=30, **asked)
            await connection.disconnect(nowait=True)
            await pool.release(connection)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())


def test_an_encrypted_connection_stays_one() -> None:
    pool = open_pool("rediss://nowhere", size=1, turn=1, answer=1, connect=1)
    assert "ssl" in pool.make_connection()._connection_arguments()
