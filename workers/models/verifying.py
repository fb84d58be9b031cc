"""Whether a model's files are still those that were put there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from workers.models.digests import Digests, read_into
from workers.models.places import Record


def problems_of(folder: Path, record: Record, tell: Callable[[int], None]) -> list[dict[str, str]]:
    """The files that are not (see `spec.Problem`), none if all are. `tell` hears of the bytes that were looked at."""
    found = []
    for file in record.files:
        path = folder / file.name
        if not path.is_file():
            found.append({"file": file.name, "problem": "missing"})
        elif path.stat().st_size != file.size:
            found.append({"file": file.name, "problem": "size"})
        else:
            digests = Digests(file.size)
            read_into(digests, path, tell)
            if digests.sha256 != file.sha256:
                found.append({"file": file.name, "problem": "sha256"})
    return found
