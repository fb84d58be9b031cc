"""The one list of job states, and the only moves between them (the database's trigger holds the same table)."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is. `run_after` in the future makes a queued job wait; `cancel_requested_at` marks a running one."""

    QUEUED = "queued"
    """Accepted and durable. Waits for a worker: the first time, after a retryable error, a drain or a lost worker."""

    RUNNING = "running"
    """One worker holds the lease of the current attempt. If it dies, the reaper moves the job on."""

    COMPLETED = "completed"
    """One attempt published its manifest. Terminal."""

    FAILED = "failed"
    """The input was at fault, or retries or crashes are used up; `error` says which. Terminal."""

    CANCELLED = "cancelled"
    """The owner cancelled it before it completed. Terminal."""

    EXPIRED = "expired"
    """Its deadline passed first. Terminal."""


LIVE = frozenset({JobState.QUEUED, JobState.RUNNING})
TERMINAL = frozenset(JobState) - LIVE

# The error of a job that expired in the queue (SQL).
NEVER_RAN = "jsonb_build_object('code', 'deadline', 'message', 'The deadline passed before the job could run.')"

MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.EXPIRED}),
    JobState.RUNNING: TERMINAL | {JobState.QUEUED},
    **{state: frozenset() for state in TERMINAL},
}
