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
    """Everything that came with this job, and that any attempt of it wrote."""
    return f"results/{owner}/{job_id}/"


def input_key(owner: str, job_id: UUID, field: str) -> str:
    """A file that came with the request; it goes when the job's results go."""
    return f"{job_prefix(owner, job_id)}input/{field}"


def attempt_prefix(owner: str, job_id: UUID, attempt: int) -> str:
    """Everything that one attempt wrote: attempts never share a key."""
    return f"{job_prefix(owner, job_id)}{attempt}/"
