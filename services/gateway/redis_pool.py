"""Connections to Redis whose failures are all Redis's: uvloop calls a write on a lost one a RuntimeError."""

from __future__ import annotations

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


class _Plain(Connection):  # type: ignore[misc]
    async def send_packed_command(self, *args: Any, **more: Any) -> None:
        try:
            await super().send_packed_command(*args, **more)
        except RuntimeError as error:
            raise ConnectionLost("The connection was lost.") from error


class _Encrypted(_Plain, SSLConnection):  # type: ignore[misc]
    pass
