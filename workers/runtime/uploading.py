"""Brings what an attempt made into the storage, under keys of that attempt alone, and takes it away again."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath

from shared.jobs.artifacts import ManifestEntry, attempt_prefix
from shared.jobs.claims import Claim
from shared.logging import get_logger
from shared.storage.interface import Storage, StorageError
from workers.runtime.job_context import Artifact, JobContext

log = get_logger(__name__)


def upload(storage: Storage, job: JobContext) -> list[ManifestEntry]:
    """Store the job's artifacts, each read back; raises StorageError, and JobStopped if the job must stop."""
    if not job.artifacts:
        return []
    job.phase("uploading")
    prefix = _prefix(job.claim)
    return [_store(storage, f"{prefix}{n}", artifact) for n, artifact in enumerate(job.artifacts)]


def forget(storage: Storage, claim: Claim) -> None:
    """Remove what this attempt uploaded: it is nobody's result."""
    try:
        storage.delete(list(storage.list(_prefix(claim))))
    except StorageError as error:
        log.warning("orphaned files stay until the janitor comes", error=str(error))


def _prefix(claim: Claim) -> str:
    return attempt_prefix(claim.owner, claim.id, claim.attempt)


def _store(storage: Storage, stem: str, artifact: Artifact) -> ManifestEntry:
    key = stem + PurePosixPath(artifact.name).suffix
    stored = storage.put(key, [artifact.content], artifact.media_type)
    again = hashlib.sha256()
    for chunk in storage.read(key):
        again.update(chunk)
    if again.hexdigest() != stored.sha256 or stored.size != len(artifact.content):
        raise StorageError(f"{key} was not read back as it was written")
    return {
        "name": artifact.name,
        "key": key,
        "media_type": artifact.media_type,
        "size": stored.size,
        "sha256": stored.sha256,
        "crc32": stored.crc32,
    }
