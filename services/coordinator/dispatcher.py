"""Rings for queued jobs: at once when the gateway notifies, and every second as the net under lost notifications.

The window bounds how many doorbells wait in Redis, so that order, fairness and cancellation stay with the table.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable

from kombu.exceptions import OperationalError
from sqlalchemy import Engine

from services.coordinator.loop import AWAY, log
from shared.database import open_database
from shared.failpoints import failpoint
from shared.family import Family
from shared.fleet import ALIVE_SECONDS
from shared.fleet.reports import slots
from shared.jobs.claims import ring, unring
from shared.jobs.notices import QUEUED_CHANNEL
from shared.listener import Listener
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
        self._listener = Listener(settings.database_url, QUEUED_CHANNEL)
        self._slots: dict[str, int] = {}
        self._slots_at = -SLOTS_AGE
        self._poll_at = time.monotonic() + POLL
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
            failpoint("D1")
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
        """The families to look at next: those notified, or all of them POLL seconds after they last were."""
        notified = self._listener.wait(max(0.0, self._poll_at - time.monotonic()), self._woken)
        if time.monotonic() < self._poll_at:
            return set(notified) & set(self._families)
        self._poll_at = time.monotonic() + POLL
        return self._families

    def _close(self) -> None:
        self._listener.close()
        self._publisher.close()
        self._engine.dispose()
        self._waker.close()
        self._woken.close()
