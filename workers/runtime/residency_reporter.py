"""Tells the fleet what this child has loaded, and hears what is to be unloaded."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from shared.fleet import REPORT_SECONDS
from shared.fleet.reports import report_resident
from shared.jobs.notices import UNLOAD_CHANNEL
from shared.listener import Listener
from shared.logging import get_logger
from workers.runtime.devices import describe_device
from workers.runtime.residency import Residency

log = get_logger(__name__)

COUNTS = {"runs", "hits", "last_used_at"}  # they move with every job


class ResidencyReporter(threading.Thread):
    """One thread a child. What is loaded is told when it changes; what moves with every job, every few seconds."""

    def __init__(self, database_url: str, engine: Engine, residency: Residency, worker: str) -> None:
        super().__init__(name="residency", daemon=True)
        self._engine, self._residency, self._worker = engine, residency, worker
        self._listener = Listener(database_url, UNLOAD_CHANNEL)
        self._lock = threading.Lock()
        self._told: dict[str, Any] = {}

    def run(self) -> None:
        while True:
            for notice in self._listener.wait(REPORT_SECONDS):
                self._unload(**json.loads(notice))
            self._write(self._residency.status())

    def tell(self, status: dict[str, Any]) -> None:
        """A job has ended: tell at once if other models are loaded now than were told."""
        if _lasting(status) != _lasting(self._told):
            self._write(status)

    def _unload(self, request: str, family: str, model: str) -> None:
        try:
            self._residency.unload(family, model, request)
        except Exception as error:  # of the runner's `close`; this thread has more to hear and to tell
            log.error("a model could not be closed", family=family, model=model, exc_info=error)

    def _write(self, status: dict[str, Any]) -> None:
        with self._lock:
            if status == self._told:
                return
            details = describe_device(self._residency.device) | {"pid": os.getpid()} | status
            try:
                with self._engine.begin() as connection:
                    report_resident(connection, self._worker, details)
                self._told = status
            except SQLAlchemyError as error:
                log.warning("could not report what is loaded", error=str(error).split("\n", 1)[0])


def _lasting(value: Any) -> Any:
    """The same without what is only counted."""
    if isinstance(value, dict):
        return {key: _lasting(item) for key, item in value.items() if key not in COUNTS}
    return [_lasting(item) for item in value] if isinstance(value, list) else value
