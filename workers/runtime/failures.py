"""What an error becomes: the one table from causes to the state that the job gets and the code that its client sees."""

from __future__ import annotations

from dataclasses import dataclass

from shared.storage.interface import StorageError
from workers.runtime.runner import DeviceFault, RunnerError


@dataclass(frozen=True, slots=True)
class Verdict:
    """`retry` queues the job again (until its failures are used up); `poisoned` ends this process afterwards."""

    code: str
    message: str
    retry: bool
    poisoned: bool = False
    tries: int | None = None

    def failures_allowed(self, general: int) -> int:
        """How many failures end the job, where `general` is what the settings say."""
        return general if self.tries is None else min(general, self.tries)


def judge(error: Exception) -> Verdict:
    """Known errors speak for themselves; anything else is a bug of ours, and its text stays in the log."""
    if isinstance(error, RunnerError):
        return Verdict(error.code, str(error), error.retryable, isinstance(error, DeviceFault), error.tries)
    if isinstance(error, StorageError):
        return Verdict("storage_unavailable", "The result could not be stored.", retry=True)
    return Verdict("internal", "An unexpected error; the worker's log has it under this job's id.", retry=True)
