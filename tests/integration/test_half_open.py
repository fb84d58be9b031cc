"""Connections whose other side is gone without a word are given up within seconds, by both sides."""

from __future__ import annotations

import asyncio
import os
import socket

from celery import Celery
from sqlalchemy import text

from shared.database import open_database
from shared.listener import Listener
from shared.queue import celery_settings
from shared.wall import open_walled

ASKED = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3"}


def patience(connection: socket.socket) -> list[int]:
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    return [connection.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]


def of_descriptor(number: int) -> list[int]:
    with socket.socket(fileno=os.dup(number)) as copy:
        return patience(copy)


def test_of_gateways(database_url: str) -> None:
    async def look() -> tuple[dict[str, str], str, list[int]]:
        async with open_walled(database_url, name="test", size=1) as pool, pool.acquire() as connection:
            told = {name: await connection.fetchval(f"SHOW {name}") for name in ASKED}
            unread = await connection.fetchval("SHOW tcp_user_timeout")
            return told, unread, patience(connection._transport.get_extra_info("socket"))

    told, unread, ours = asyncio.run(look())
    assert told == ASKED
    assert unread in ("10s", "10000")
    assert ours == [5, 2, 3, 10_000]


def test_of_coordinators_and_workers(database_url: str) -> None:
    engine = open_database(database_url)
    with engine.connect() as db:
        assert {name: db.execute(text(f"SHOW {name}")).scalar_one() for name in ASKED} == ASKED
        assert db.execute(text("SHOW tcp_user_timeout")).scalar_one() in ("10s", "10000")
        assert of_descriptor(db.connection.dbapi_connection.fileno()) == [5, 2, 3, 10_000]
    engine.dispose()


def test_of_those_who_only_listen(database_url: str) -> None:
    listener = Listener(database_url, "somewhere")
    listener.wait(0)
    assert listener._connection is not None
    assert of_descriptor(listener._connection.fileno()) == [5, 2, 3, 10_000]
    listener.close()


def test_of_those_who_wait_for_doorbells(redis_url: str) -> None:
    with Celery(broker=redis_url) as app:
        app.conf.update(celery_settings({}))
        with app.connection_for_read() as broker:
            connection = broker.default_channel.client.connection_pool.get_connection()
            assert patience(connection._sock) == [5, 2, 3, 10_000]
            connection.disconnect()
