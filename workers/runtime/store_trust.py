"""Whether the store takes what jobs make: while it does not, work would only be lost, and with it the jobs' tries."""

from __future__ import annotations

import time

from shared.logging import get_logger
from shared.storage.interface import ObjectMissing, Storage, StorageError

log = get_logger(__name__)
TRUSTED = 10.0  # seconds after the store said that it works
NEVER = float("-inf")


class StoreTrust:
    """Trusts the store for a while once it says that it works, and no longer than until its next error."""

    def __init__(self, storage: Storage) -> None:
        self._storage, self._worked_at = storage, NEVER
        self._fault: str | None = None

    def heard(self, error: BaseException) -> None:
        """An attempt met this error. That a file is not there says nothing of the store."""
        met = (error, error.__cause__)
        if any(isinstance(one, StorageError) and not isinstance(one, ObjectMissing) for one in met):
            self._worked_at = NEVER

    @property
    def is_doubted(self) -> bool:
        """Whether it must be asked before it is used again."""
        return self._worked_at == NEVER

    def works(self) -> bool:
        """Whether jobs may be taken."""
        if time.monotonic() - self._worked_at < TRUSTED:
            return True
        try:
            self._storage.check()
        except StorageError as error:
            if self._fault is None:
                log.warning("the store does not work: no jobs are taken", error=str(error))
            self._worked_at, self._fault = NEVER, str(error)
            return False
        if self._fault is not None:
            log.info("the store works again")
        self._worked_at, self._fault = time.monotonic(), None
        return True
