"""What this process takes: the job it was rung for, then the family's next ones, with those that run as one batch."""

from __future__ import annotations

import os
import time
from uuid import UUID

from sqlalchemy import Connection

from shared.jobs.claims import Claim, claim, claim_companions, claim_next
from shared.settings import Settings
from workers.families import families
from workers.runtime.devices import this_place

# A worker goes on without a doorbell for at most this long in one Celery task, whose time limit has a margin of 60 s.
CHAIN_SECONDS = 30.0


class Intake:
    """Claims for one child process, until it is to end: drained, orphaned, or near its task's time limit."""

    def __init__(self, settings: Settings, worker: str) -> None:
        self._settings, self._worker = settings, worker
        self._lease = settings.lease_seconds
        self._place = this_place(settings.device)
        self._go_on_until = 0.0
        self._parent = os.getppid()
        self.drain_until: float | None = None

    def drain(self) -> None:
        """Claim nothing more; what runs may take the grace period. Told again, it stops at its next step."""
        grace = self._settings.drain_seconds if self.drain_until is None else 0
        self.drain_until = time.monotonic() + grace

    def answer(self, connection: Connection, family: str, job_id: UUID) -> list[Claim]:
        """A doorbell rang: that job if it is still there, else the family's next one, each with its companions."""
        self._go_on_until = time.monotonic() + CHAIN_SECONDS
        first = claim(connection, job_id, self._worker, self._lease, self._place)
        return self._with_companions(connection, first) or self.next(connection, family)

    def next(self, connection: Connection, family: str) -> list[Claim]:
        """The family's next job with its companions, if this process may go on."""
        if self.drain_until is not None or os.getppid() != self._parent or time.monotonic() > self._go_on_until:
            return []
        return self._with_companions(connection, claim_next(connection, family, self._worker, self._lease, self._place))

    def _with_companions(self, connection: Connection, first: Claim | None) -> list[Claim]:
        if first is None:
            return []
        if first.batch_key is None or (most := _max_batch(first) - 1) < 1:
            return [first]
        return [first, *claim_companions(connection, first, most, self._worker, self._lease)]


def has_batches(family: str) -> bool:
    """Whether jobs of this family may be claimed together."""
    return any(operation.max_batch > 1 for operation in families()[family].operations)


def _max_batch(claimed: Claim) -> int:
    """1 for an operation that only newer workers know."""
    operations = families()[claimed.family].operations
    return next((operation.max_batch for operation in operations if operation.name == claimed.operation), 1)
