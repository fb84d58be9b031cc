"""Moves on the jobs that nobody holds any more: lost workers (T9) and passed deadlines (T11)."""

from __future__ import annotations

import time
from dataclasses import asdict

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from services.coordinator.loop import log
from shared.breakers.models import BreakerRule, trip
from shared.database import is_cut_off
from shared.events import EventPublisher
from shared.family import Family
from shared.jobs.upkeep import Budget, Moved, expire, reap_expired
from shared.settings import Settings


class Reaper:
    """T9 and T11. It reaps only after one lease in which it reached Postgres, so that living workers, which may not
    have reached it either, can prolong theirs first.
    """

    def __init__(self, settings: Settings, families: dict[str, Family], engine: Engine, events: EventPublisher) -> None:
        self._settings, self._engine, self._events = settings, engine, events
        self._max_runtimes = {family.name: family.max_runtime for family in families.values()}
        self._budget = Budget.of(settings)
        self._breakers = BreakerRule.of(settings)
        self._since = time.monotonic()

    def round(self) -> None:
        """One look at all leases and deadlines."""
        try:
            self._look()
        except SQLAlchemyError as error:
            if is_cut_off(error):
                self._since = time.monotonic()
            raise

    def _look(self) -> None:
        while moved := self._expire():
            self._tell(moved)
        if time.monotonic() - self._since >= self._settings.lease_seconds:
            while moved := self._reap():
                self._tell(moved)

    def _expire(self) -> list[Moved]:
        with self._engine.begin() as connection:
            return expire(connection, self._settings.result_ttl_seconds)

    def _reap(self) -> list[Moved]:
        with self._engine.begin() as connection:  # of its own: each round of bookings locks its owners' counters
            moved = reap_expired(connection, self._budget, self._settings.lease_seconds, self._max_runtimes)
            paused = trip(connection, self._breakers)
        for model in paused:
            log.error("a model is paused", **asdict(model))
        return moved

    def _tell(self, moved: list[Moved]) -> None:
        for job in moved:
            log.warning("job moved on", job=str(job.id), state=job.state)
        self._events.changed(*(job.id for job in moved))
