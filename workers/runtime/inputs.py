"""Brings a request's files onto this machine's disk, and takes them away again."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from shared.egress.client import Egress
from shared.family import FileInput, Operation
from shared.jobs.artifacts import input_key
from shared.jobs.claims import Claim
from shared.storage.interface import Storage, StorageError
from workers.runtime.fetching import keep_address
from workers.runtime.room import own_files
from workers.runtime.runner import RunnerError


class InputLost(RunnerError):
    """A file of the request is not read back as it was accepted; the store may do better at the next attempt."""

    code = "storage_unavailable"


class NoRoom(RunnerError):
    """This machine's disk does not take the request's files; it may later, or another machine's may."""

    code = "storage_unavailable"


@contextmanager
def fetched(
    storage: Storage, egress: Egress, claim: Claim, operation: Operation, request: BaseModel
) -> Iterator[dict[str, Path]]:
    """The request's files by field, verified. A file at an address is fetched into the storage first.

    Raises InputLost if a file is missing or is not what was accepted, NoRoom, and what `keep_address` raises.
    """
    if not operation.files:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="atelier-input-", dir=own_files()) as folder:
        files = {}
        for field, rule in operation.files.items():
            expected = getattr(request, field)
            if expected is None:
                continue
            assert isinstance(expected, FileInput)
            key, path = input_key(claim.owner, claim.id, field), Path(folder, field)
            try:
                if expected.sha256 is None:
                    assert expected.source is not None
                    keep_address(storage, egress, key, field, expected.source, rule)
                digest = _copy(storage, key, path)
            except StorageError as error:
                raise InputLost(f"{field}, a file of the request, cannot be read from the storage.") from error
            except OSError as error:
                raise NoRoom(f"{field}, a file of the request, cannot be kept by the worker.") from error
            if expected.sha256 not in (None, digest):
                raise InputLost(f"{field}, a file of the request, is not in the storage as it was accepted.")
            files[field] = path
        yield files


def _copy(storage: Storage, key: str, path: Path) -> str:
    """The SHA-256 of what was copied."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in storage.read(key):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()
