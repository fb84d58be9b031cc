"""Where a job's files lie in storage. Keys hold ids and numbers only; a file's public name is in the manifest."""

from __future__ import annotations

from typing import TypedDict
from uuid import UUID


class ManifestEntry(TypedDict):
    """One artifact of a completed job: public `name`, storage `key`, `size` in bytes, `sha256` hex, `crc32`."""

    name: str
    key: str
    media_type: str
    size: int
    sha256: str
    crc32: int


def job_prefix(owner: str, job_id: UUID) -> str:
    """Everything that any attempt of this job wrote."""
    return f"results/{owner}/{job_id}/"


def attempt_prefix(owner: str, job_id: UUID, attempt: int) -> str:
    """Everything that one attempt wrote: attempts never share a key."""
    return f"{job_prefix(owner, job_id)}{attempt}/"
