"""Rings for queued jobs: at once when the gateway notifies, and every second as the net under lost notifications.

The window bounds how many doorbells wait in Redis, so that order, fairness and cancellation stay with the table.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterable

import psycopg2
from kombu.exceptions import OperationalError
from sqlalchemy import Engine

from services.coordinator.loop import AWAY, log
from shared.database import open_database
from shared.family import Family
from shared.fleet import ALIVE_SECONDS
from shared.fleet.reports import slots
from shared.jobs.claims import ring, unring
from shared.jobs.notices import QUEUED_CHANNEL
from shared.queue import TIME_LIMIT_MARGIN, DoorbellPublisher
from shared.settings import Settings

POLL = 1.0
SLOTS_AGE = 5.0
BATCH = 100


class Dispatcher:
    """T2 for all families. Several may run: SKIP LOCKED keeps them off each other's rows."""

    def __init__(self, settings: Settings, families: dict[str, Family]) -> None:
        self._settings, self._families = settings, families
        # A forgotten mark costs one more doorbell.
        self._engine: Engine = open_database(
            settings.database_url, pool_size=1, name="atelier-dispatcher", ping=False, marks=True
        )
        self._publisher = DoorbellPublisher(settings.redis_url, {f.name: f.queue for f in families.values()})
        self._waker, self._woken = socket.socketpair()
        self._listener: psycopg2.extensions.connection | None = None
        self._slots: dict[str, int] = {}
        self._slots_at = -SLOTS_AGE
        self._stopping = False

    def run(self) -> None:
        """Dispatch until `stop`."""
        due: Iterable[str] = self._families
        while not self._stopping:
            for family in due:
                self._try(family)
            due = self._wait()
        self._close()

    def stop(self) -> None:
        """End after the current round; callable from a signal handler."""
        self._stopping = True
        self._waker.send(b"x")

    def dispatch(self, family: str) -> int:
        """Fill the family's window; the number of doorbells rung."""
        rung = 0
        while need := min(self._need(family), BATCH):
            bells = self._ring(family, need)
            rung += len(bells)
            if len(bells) < need:
                break
        return rung

    def _try(self, family: str) -> None:
        try:
            self.dispatch(family)
        except AWAY as error:
            log.warning("dispatch failed", family=family, error=str(error).split("\n", 1)[0])

    def _ring(self, family: str, need: int) -> list:
        # With an empty list, whatever was dispatched and not claimed for a while was lost: do not wait a minute.
        unanswered = self._settings.redispatch_seconds if self._waiting else self._settings.unclaimed_seconds
        with self._engine.begin() as connection:
            bells = ring(connection, family, need, unanswered)
        if bells:
            try:
                limit = self._families[family].max_runtime + TIME_LIMIT_MARGIN
                self._publisher.publish(family, bells, limit)
            except (OperationalError, OSError):
                with self._engine.begin() as connection:
                    unring(connection, bells)
                raise
        return bells

    def _need(self, family: str) -> int:
        self._waiting = self._publisher.waiting(family)
        window = self._settings.dispatch_window + 2 * self._workers().get(family, 0)
        return max(0, window - self._waiting)

    def _workers(self) -> dict[str, int]:
        if time.monotonic() - self._slots_at > SLOTS_AGE:
            with self._engine.begin() as connection:
                self._slots = slots(connection, ALIVE_SECONDS)
            self._slots_at = time.monotonic()
        return self._slots

    def _wait(self) -> Iterable[str]:
        """The families to look at next: those notified, or all of them after POLL seconds of silence."""
        try:
            listener = self._listen()
            ready, _, _ = select.select([listener, self._woken], [], [], POLL)
            if listener not in ready:
                return self._families
            listener.poll()
        except (psycopg2.Error, OSError):
            self._listener = None
            select.select([self._woken], [], [], POLL)
            return self._families
        notified = {notice.payload for notice in listener.notifies}
        listener.notifies.clear()
        return notified & set(self._families)

    def _listen(self) -> psycopg2.extensions.connection:
        if self._listener is None or self._listener.closed:
            connection = psycopg2.connect(self._settings.database_url, connect_timeout=5)
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"LISTEN {QUEUED_CHANNEL}")
            self._listener = connection
        return self._listener

    def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        self._publisher.close()
        self._engine.dispose()
        self._waker.close()
        self._woken.close()
