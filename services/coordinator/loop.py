"""A loop of the coordinator: does its round, waits, and survives a server that is away and a round that fails."""

from __future__ import annotations

import threading
from collections.abc import Callable

import redis
from kombu.exceptions import OperationalError
from sqlalchemy.exc import SQLAlchemyError

from shared.logging import get_logger
from shared.storage.interface import StorageError

log = get_logger(__name__)

AWAY = (SQLAlchemyError, OperationalError, redis.RedisError, StorageError, OSError)


class Loop(threading.Thread):
    """Calls `body` every `seconds`; a server that is away is logged once and tried again at the next round."""

    def __init__(self, name: str, seconds: float, body: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._seconds, self._body = seconds, body
        self._stop_asked = threading.Event()
        self._failing = False

    def run(self) -> None:
        while not self._stop_asked.is_set():
            self.round()
            self._stop_asked.wait(self._seconds)

    def round(self) -> None:
        """One call of the body."""
        try:
            self._body()
        except AWAY as error:
            if not self._failing:
                log.warning("a server is away", loop=self.name, error=str(error).split("\n", 1)[0])
            self._failing = True
        except Exception:  # a bug of ours in one round must not end all rounds
            log.exception("a round failed", loop=self.name)
        else:
            if self._failing:
                log.info("back to work", loop=self.name)
            self._failing = False

    def stop(self) -> None:
        """Ask the loop to end after its round."""
        self._stop_asked.set()
