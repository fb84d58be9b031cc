"""The worker's parent: it never imports torch. It reports the worker, drains its child, and tells when a child died."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from celery.signals import task_failure, worker_ready, worker_shutdown, worker_shutting_down
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from shared.breakers.devices import QuarantineRule, aside, note_crash
from shared.breakers.models import BreakerRule, trip
from shared.catalog.reports import report_models
from shared.database import is_cut_off, open_database
from shared.events import EventPublisher
from shared.family import Family, ModelCard
from shared.fleet import REPORT_SECONDS
from shared.fleet.reports import forget_resident, report, touch
from shared.jobs.claims import GOES_ON
from shared.jobs.records import Seen
from shared.jobs.upkeep import Budget, reap_worker
from shared.logging import get_logger
from shared.settings import Settings, get_settings
from shared.storage.open import open_storage
from workers.child import pid_of, worker_name
from workers.children import Children, remove_room
from workers.families import served_families
from workers.model_folders import HASHES
from workers.runtime.devices import this_place
from workers.runtime.store_trust import StoreTrust

log = get_logger(__name__)

LOOK_SECONDS = 1.0  # between two looks at the children: what one is seen to hold may be so old when it dies
CANCEL_PATIENCE = 30  # seconds until a child that does not stop for a cancellation is killed

# A child may hold a batch: it is not killed for the wish to cancel one job while it works on the others. One that keeps
# a lease lives.
HELD = text("""
SELECT lease_owner, bool_and(lease_expires_at < now()) AS silent,
    bool_and(coalesce(cancel_requested_at < now() - make_interval(secs => :patience), false)) AS deaf
FROM jobs WHERE state = 'running' AND starts_with(lease_owner, :prefix) GROUP BY lease_owner
""")

# Jobs that have been due for a while, for which the dispatcher has rung, and that still nobody claimed.
UNHEARD = text(f"""
SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 'queued' AND family = ANY(:families) AND dispatch_no > 0
               AND dispatched_at IS NOT NULL AND run_after < now() - make_interval(secs => :deaf) AND {GOES_ON})
""")


class Guard(threading.Thread):
    """Looks every few seconds, and at once when Celery loses a child, at what the children hold."""

    def __init__(self, settings: Settings, consumer: Any) -> None:
        super().__init__(name="guard", daemon=True)
        self._settings, self._consumer, self._children = settings, consumer, Children(consumer.pool._pool)
        self._breakers, self._quarantines = BreakerRule.of(settings), QuarantineRule.of(settings)
        self._place = this_place(settings.device)
        self._name = worker_name(os.getpid())
        self._engine: Engine = open_database(settings.database_url, pool_size=1, name="atelier-worker-guard")
        self._events = EventPublisher(settings.redis_url)
        self._wake = threading.Event()
        self._state = "ready"
        self._reported: dict[str, tuple[ModelCard, ...]] = {}
        self._deaf_since: float | None = None
        self._since = time.monotonic()  # when the database was back: for a lease no child is blamed for its silence

    def run(self) -> None:
        while self._state != "stopped":
            try:
                self._report_models()
                self._round()
            except SQLAlchemyError as error:
                log.warning("the database is away", error=str(error).split("\n", 1)[0])
                if is_cut_off(error):
                    self._since = time.monotonic()
            except Exception:  # a bug of ours in one look must not end all looks
                log.exception("a look at the children failed")
            self._wait()

    def _wait(self) -> None:
        """Until it is time to report, somebody wakes us, or a child has died."""
        until = time.monotonic() + REPORT_SECONDS
        while not self._children.look() and time.monotonic() < until:
            if self._wake.wait(LOOK_SECONDS):
                break
        self._wake.clear()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def drain(self) -> None:
        """Tell the children that the worker stops."""
        self._state = "draining"
        for pid in self._children.alive():
            _signal(pid, signal.SIGUSR2)
        self.wake()

    def leave(self) -> None:
        """The worker has stopped."""
        self._state = "stopped"
        self.wake()
        self.join(timeout=5)
        try:
            with self._engine.begin() as connection:
                touch(connection, self._name, "stopped")
        except SQLAlchemyError as error:
            log.warning("could not sign off", error=str(error).split("\n", 1)[0])
        self._events.close()
        self._engine.dispose()
        remove_room()

    def _report_models(self) -> None:
        """Tell what lies on the disk, if that has changed: models may be added while the worker runs.

        The worker enters the fleet together with its first models: whoever sees it can name them.
        """
        families = served_families()
        found = {family.name: self._discovered(family) for family in families.values()}
        changed = {name: cards for name, cards in found.items() if cards != self._reported.get(name)}
        with self._engine.begin() as connection:
            if not self._reported:
                report(connection, self._name, list(families), self._settings.device, self._state, {})
            for name, cards in changed.items():
                report_models(connection, self._name, name, cards)
        self._reported = found
        HASHES.compute_in_background()  # a later round tells them

    def _discovered(self, family: Family) -> tuple[ModelCard, ...]:
        """What lies on the disk now; what lay there before, while the disk cannot be read or changes under our eyes."""
        try:
            return tuple(family.discover())
        except OSError as error:
            log.warning("models could not be looked at", family=family.name, exc_info=error)
            return self._reported.get(family.name, ())

    def _round(self) -> None:
        with self._engine.begin() as connection:
            self._heed_quarantine(connection)
            if not touch(connection, self._name, self._state):
                self._reported = {}  # it enters the fleet anew at the next look
            held = connection.execute(HELD, {"prefix": f"{self._name}/", "patience": CANCEL_PATIENCE}).all()
            forget_resident(connection, self._name, self._children.alive())
            unheard = connection.execute(
                UNHEARD, {"families": list(served_families()), "deaf": self._settings.deaf_seconds}
            ).scalar_one()
        self._end_if_deaf(bool(unheard) and not held and self._children.have_started())
        alive = set(self._children.alive())
        for row in held:
            pid = pid_of(row.lease_owner)
            if pid is None or pid not in alive:
                self._reap(row.lease_owner, self._children.left_by(pid))
            elif row.deaf or (row.silent and time.monotonic() - self._since > self._settings.lease_seconds):
                log.error("the child does not stop, killing it", pid=pid)
                self._children.say_of(pid, "its parent: it does not stop, killing it")
                _signal(pid, signal.SIGKILL)
                self.wake()

    def _heed_quarantine(self, connection: Connection) -> None:
        """While the device is set aside, hear no doorbells: whoever can answer them shall."""
        found = aside(connection, self._place)
        if found is not None and self._state == "ready":
            log.error("this device is set aside, nothing is taken", reason=found.reason, seconds=round(found.seconds))
            self._state = "quarantined"
            self._listen(self._consumer.cancel_task_queue)
        elif found is None and self._state == "quarantined":
            log.warning("this device is tried again", device=self._place.device)
            self._state = "ready"
            self._listen(self._consumer.add_task_queue)

    def _listen(self, change: Callable[[str], None]) -> None:
        """In the thread that hears the broker."""
        for family in served_families().values():
            self._consumer.call_soon(change, family.queue)

    def _end_if_deaf(self, idle_and_unheard: bool) -> None:
        """A worker that sits idle beside unheard doorbells has lost its broker without noticing: start afresh."""
        if not idle_and_unheard or self._state != "ready":
            self._deaf_since = None
            return
        self._deaf_since = self._deaf_since or time.monotonic()
        if time.monotonic() - self._deaf_since >= self._settings.deaf_seconds:
            if not self._store_works():  # then its children take nothing
                self._deaf_since = None
                return
            log.error("this worker hears no doorbells, ending it", seconds=self._settings.deaf_seconds)
            remove_room()
            os._exit(1)  # nothing runs here; a supervisor starts it again

    def _store_works(self) -> bool:
        s = self._settings
        return StoreTrust(open_storage(s.storage_url, s.s3_endpoint_url, s.s3_region)).works()

    def _reap(self, lease_owner: str, left: Seen) -> None:
        with self._engine.begin() as connection:
            by_device = note_crash(connection, self._place, lease_owner, self._quarantines)
            moved = reap_worker(connection, Budget.of(self._settings), lease_owner, left, charge=not by_device)
            paused = trip(connection, self._breakers)
        for model in paused:
            log.error("a model is paused", **asdict(model))
        for job in moved:
            how = {"exit_code": left.exit_code, "signal": left.signal}
            log.warning("a child died with this job", job=str(job.id), state=job.state, **how)
        self._events.changed(*(job.id for job in moved))


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


_guards: list[Guard] = []


@worker_ready.connect
def _on_ready(sender: Any, **_: object) -> None:
    guard = Guard(get_settings(), sender)
    guard.start()
    _guards.append(guard)


@task_failure.connect
def _on_lost(**_: object) -> None:
    for guard in _guards:
        guard.wake()


@worker_shutting_down.connect
def _on_stop(**_: object) -> None:
    for guard in _guards:
        guard.drain()


@worker_shutdown.connect
def _on_stopped(**_: object) -> None:
    for guard in _guards:
        guard.leave()
