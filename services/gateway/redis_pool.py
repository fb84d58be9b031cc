"""Connections to Redis whose failures are all Redis's.

uvloop calls a write on a lost one a RuntimeError; redis-py trips over one that somebody else has found lost meanwhile,
and takes what the kernel says of one that leads nowhere (ETIMEDOUT) for the end of a reader's patience, at each read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.asyncio import BlockingConnectionPool, Connection, SSLConnection
from redis.exceptions import ConnectionError as ConnectionLost


def open_pool(url: str, *, size: int, turn: float, answer: float, connect: float) -> BlockingConnectionPool:
    """At most `size` connections. Seconds: for one to be free, for an answer, for a new connection."""
    pool = BlockingConnectionPool.from_url(
        url, max_connections=size, timeout=turn, socket_timeout=answer, socket_connect_timeout=connect
    )
    pool.connection_class = _Encrypted if issubclass(pool.connection_class, SSLConnection) else _Plain
    return pool


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, AttributeError) as error:
        raise ConnectionLost("The connection was lost.") from error


class _Plain(Connection):  # type: ignore[misc]
    async def send_packed_command(self, *args: Any, **more: Any) -> None:
        with _told():
            await super().send_packed_command(*args, **more)

    async def read_response(self, *args: Any, **more: Any) -> Any:
        asked, patience = time.monotonic(), more.get("timeout")
        with _told():
            answer = await super().read_response(*args, **more)
        if answer is None and patience is not None and time.monotonic() - asked < patience / 2:
            raise ConnectionLost("The connection was lost.")
        return answer


class _Encrypted(_Plain, SSLConnection):  # type: ignore[misc]
    pass
