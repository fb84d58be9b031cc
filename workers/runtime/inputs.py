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


@contextmanager
def fetched(storage: Storage, claim: Claim, operation: Operation, request: BaseModel) -> Iterator[dict[str, Path]]:
    """The request's files by field, verified; StorageError if one is missing or is not what was accepted."""
    if operation.multipart is None:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="atelier-") as folder:
        files = {}
        for field in operation.multipart.files:
            expected = getattr(request, field)
            assert isinstance(expected, FileInput)
            files[field] = Path(folder, field)
            _fetch(storage, input_key(claim.owner, claim.id, field), expected.sha256, files[field])
        yield files


def _fetch(storage: Storage, key: str, sha256: str, path: Path) -> None:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in storage.read(key):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != sha256:
        raise StorageError(f"{key} is not what was accepted")
