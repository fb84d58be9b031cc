"""Refuses servers that would break the promises: a Postgres that may forget a commit, a Redis that drops doorbells when
it is full, a host whose clock is far from Postgres's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from shared.database import open_database
from shared.logging import get_logger
from shared.settings import Settings

log = get_logger(__name__)

QUESTION = """
SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit, clock_timestamp() AS now
"""
PAUSE = 1.0  # seconds between two looks at a Postgres that is not up yet


class Unfit(SystemExit):
    """The process does not start; its text says which server is wrong and what to set."""


def check_database(told: Mapping[str, Any], settings: Settings) -> None:
    """Judge the answer to QUESTION, which came just now; raises Unfit."""
    if not settings.allow_data_loss:
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            if told[name] == "off":
                raise Unfit(
                    f"Postgres has {name}=off: a crash would lose accepted jobs. Switch it on, "
                    "or set ATELIER_ALLOW_DATA_LOSS=true if that may happen (in tests)"
                )
    skew = time.time() - datetime.timestamp(told["now"])
    if settings.max_clock_skew and abs(skew) > settings.max_clock_skew:
        raise Unfit(
            f"the clock of this host is {skew:+.1f} s from Postgres's; set it (NTP), "
            "or raise ATELIER_MAX_CLOCK_SKEW (seconds; 0: any)"
        )


def check_redis(memory: Mapping[str, Any]) -> None:
    """Judge what Redis says in INFO memory; raises Unfit."""
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise Unfit(
            f"Redis has maxmemory-policy={policy}: it would drop doorbells and Celery's own keys when it is full. "
            "Set noeviction"
        )


def await_servers(settings: Settings) -> None:
    """Wait until Postgres answers, then judge it, and Redis if it is there; for the processes with psycopg2.

    Redis may be away: nothing is lost by that. /health judges it again.
    """
    engine = open_database(settings.database_url, pool_size=1, name="atelier-start")
    try:
        while True:
            try:
                with engine.connect() as connection:
                    check_database(dict(connection.execute(text(QUESTION)).mappings().one()), settings)
                break
            except OperationalError as error:
                log.warning("waiting for the database", error=str(error).split("\n", 1)[0])
                time.sleep(PAUSE)
    finally:
        engine.dispose()
    with redis.Redis.from_url(settings.redis_url, socket_connect_timeout=1, socket_timeout=2) as client:
        try:
            check_redis(client.info("memory"))
        except (RedisError, OSError) as error:
            log.warning("Redis is away", error=type(error).__name__)
