"""Families whose jobs nobody announces are rung for in time, whatever goes on in others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from sqlalchemy import Engine, text

from services.coordinator.dispatcher import Dispatcher
from shared.database import open_database
from shared.ids import new_id
from shared.jobs.notices import QUEUED_CHANNEL
from shared.settings import Settings
from tests.platform import wait_until
from workers.families import families


@contextmanager
def dispatching(environment: dict[str, str]) -> Iterator[None]:
    names = ("database_url", "redis_url", "storage_url")
    dispatcher = Dispatcher(Settings(**{name: environment[name.upper()] for name in names}), families())
    thread = threading.Thread(target=dispatcher.run)
    thread.start()
    try:
        yield
    finally:
        dispatcher.stop()
        thread.join()


@contextmanager
def announcing(database_url: str, family: str) -> Iterator[None]:
    """Submits to this family that come faster than the dispatcher's poll."""
    over = threading.Event()

    def announce() -> None:
        connection = psycopg2.connect(database_url)
        connection.autocommit = True
        with connection.cursor() as cursor:
            while not over.wait(0.1):
                cursor.execute("SELECT pg_notify(%s, %s)", (QUEUED_CHANNEL, family))
        connection.close()

    thread = threading.Thread(target=announce)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def add(engine: Engine, family: str) -> None:
    """A job that was queued again: after a retry's pause, a drain, the loss of its worker."""
    insert = """INSERT INTO jobs (id, owner, family, operation, input, turn)
        VALUES (:id, 'ann', :family, :family || '.play', '{}', 1)"""
    with engine.begin() as db:
        db.execute(text(insert), {"id": new_id(), "family": family})


def rung(engine: Engine) -> bool:
    with engine.begin() as db:
        return bool(db.execute(text("SELECT bool_and(dispatched_at IS NOT NULL) FROM jobs")).scalar())


def test_a_busy_family_does_not_silence_the_others(environment: dict[str, str], database_url: str) -> None:
    engine = open_database(database_url)
    with dispatching(environment), announcing(database_url, "image"):
        threading.Event().wait(1.5)
        add(engine, "toy")
        wait_until(lambda: rung(engine), 10, "the bell")
    engine.dispose()
