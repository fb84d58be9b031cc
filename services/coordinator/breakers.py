"""Lets paused models be tried again, and forgets the crashes and faults that no rule counts any more."""

from __future__ import annotations

from sqlalchemy import Engine

from services.coordinator.loop import log
from shared.breakers.devices import QuarantineRule, forget_incidents
from shared.breakers.models import BreakerRule, tend
from shared.settings import Settings


class Breakers:
    """The half of a breaker that waits; workers and the reaper open them."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._engine, self._rule, self._quarantines = engine, BreakerRule.of(settings), QuarantineRule.of(settings)

    def round(self) -> None:
        """One look at all breakers."""
        with self._engine.begin() as connection:
            done = tend(connection, self._rule)
            forget_incidents(connection, self._quarantines)
        for family, model, job in done.probed:
            log.info("a paused model is tried", family=family, model=model, job=job)
        for family, model in done.closed:
            log.warning("a model is used again", family=family, model=model)
