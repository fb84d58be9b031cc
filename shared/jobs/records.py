"""What is kept of every attempt, whatever its end: the statement that ends it appends one entry to `jobs.attempts`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shared.times import of_json

MAX_LINES = 50
LONGEST_LINE = 500  # characters


class Outcome(StrEnum):
    """What became of an attempt; of the job, `state` tells."""

    COMPLETED = "completed"
    """Its files and output are the job's result."""

    FAILED = "failed"
    """It met an error, and the job is not tried again."""

    RETRIED = "retried"
    """It met an error, and the job was queued again."""

    DRAINED = "drained"
    """Its worker handed the job back: it was told to stop, or had lost sight of the database."""

    LOST = "lost"
    """Its process or its whole worker died, or was not heard of for a lease."""

    CANCELLED = "cancelled"
    """The owner cancelled the job."""

    EXPIRED = "expired"
    """The job's deadline passed."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a worker saw of an attempt besides what the row knows; what nobody saw is None.

    `memory_bytes` is the most that its process held resident during the attempt, `gpu_memory_bytes` the most that its
    tensors took on a CUDA device. Of a dead process there is an exit code or a signal. `lines` end its log.
    """

    device: str | None = None
    memory_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    lines: tuple[str, ...] = ()

    def values(self) -> dict[str, Any]:
        """Only what was seen, as JSON."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) not in (None, ())}


NOTHING = Seen()

# What an owner is told of an attempt; the rest is for those who keep the platform.
OWNERS_FIELDS = ("number", "started_at", "ended_at", "outcome", "error")


def read(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry as the row has it, with its times as times."""
    return dict(entry) | {name: of_json(entry[name]) for name in ("started_at", "ended_at")}


def as_owners_see(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry without internals."""
    return {name: entry.get(name) for name in OWNERS_FIELDS}


def recorded(outcome: str, *, error: str | None = None, more: str = "") -> str:
    """The assignment (SQL) that keeps the attempt that ends; `outcome` and `error` are SQL, too.

    Bound as `seen`: `Seen.values()`. Only the error's code and its safe message are kept; `more` adds pairs of a name
    and a value. The row is read as it was before the statement.
    """
    told = ""
    if error is not None:
        shown = f"jsonb_build_object('code', ({error}) -> 'code', 'message', ({error}) -> 'message')"
        told = f", 'error', CASE WHEN ({error}) IS NOT NULL THEN {shown} END"
    return f"""attempts = attempts || jsonb_build_array(jsonb_build_object('number', attempt, 'worker', lease_owner,
        'started_at', attempt_started_at, 'ended_at', now(), 'outcome', {outcome}, 'batch_size', batch_size{told}{more})
        || CAST(:seen AS jsonb))"""
