"""Brings the files that came with a request onto this machine's disk, and takes them away again."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from shared.family import FileInput, Operation
from shared.jobs.artifacts import input_key
from shared.jobs.claims import Claim
from shared.storage.interface import Storage, StorageError
from workers.runtime.runner import RunnerError


class InputLost(RunnerError):
    """A file of the request is not read back as it was accepted; the store may do better at the next attempt."""

    code = "storage_unavailable"


@contextmanager
def fetched(storage: Storage, claim: Claim, operation: Operation, request: BaseModel) -> Iterator[dict[str, Path]]:
    """The request's files by field, verified; InputLost if one is missing or is not what was accepted."""
    if operation.multipart is None:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="atelier-") as folder:
        files = {}
        for field in operation.multipart.files:
            expected = getattr(request, field)
            assert isinstance(expected, FileInput)
            files[field] = Path(folder, field)
            try:
                digest = _fetch(storage, input_key(claim.owner, claim.id, field), files[field])
            except StorageError as error:
                raise InputLost(f"{field}, a file of the request, cannot be read from the storage.") from error
            if digest != expected.sha256:
                raise InputLost(f"{field}, a file of the request, is not in the storage as it was accepted.")
        yield files


def _fetch(storage: Storage, key: str, path: Path) -> str:
    """The SHA-256 of what was copied."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in storage.read(key):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()
