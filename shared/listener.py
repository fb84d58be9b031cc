"""Waits for the notices of a Postgres channel (`shared/jobs/notices.py`) in a synchronous process."""

from __future__ import annotations

import select
import socket

import psycopg2

from shared.database import KEEPALIVES

RETRY = 1.0  # seconds until a lost connection is opened again


class Listener:
    """One connection that only listens, opened when it is first waited for and again when it was lost."""

    def __init__(self, url: str, channel: str) -> None:
        self._url, self._channel = url, channel
        self._connection: psycopg2.extensions.connection | None = None

    def wait(self, seconds: float, *others: socket.socket) -> list[str]:
        """The payloads that arrive; none after so many seconds, when another socket is readable, or without Postgres.

        While Postgres is away it returns after at most a second: whoever waits has its own poll to do.
        """
        try:
            connection = self._connected()
            if connection not in select.select([connection, *others], [], [], seconds)[0]:
                return []
            connection.poll()
        except (psycopg2.Error, OSError):
            self._connection = None
            select.select(others, [], [], min(RETRY, seconds))
            return []
        heard = [notice.payload for notice in connection.notifies]
        connection.notifies.clear()
        return heard

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _connected(self) -> psycopg2.extensions.connection:
        if self._connection is None or self._connection.closed:
            connection = psycopg2.connect(
                self._url, connect_timeout=2, application_name="atelier-listener", **KEEPALIVES
            )
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"LISTEN {self._channel}")
            self._connection = connection
        return self._connection
