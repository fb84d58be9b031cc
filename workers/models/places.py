"""Where a model of a family lies under ATELIER_MODELS_DIR, and what is written beside it about where it is from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from workers.models.rules import LORA, TASKS

RECORD = "atelier-source.json"


@dataclass(frozen=True, slots=True)
class Place:
    """A model's name within its family and kind ("model" or "adapter")."""

    family: str
    kind: str
    name: str

    def path(self, models_dir: Path) -> Path:
        """Its folder."""
        return models_dir / self.family / ("loras" if self.kind == "adapter" else ".") / self.name

    def by_hand(self, models_dir: Path) -> Path:
        """Where a LoRA of this name may lie as a single file."""
        return self.path(models_dir).with_name(f"{self.name}.safetensors")


def place_of(task: str, name: str) -> Place:
    """Where a model for this task goes."""
    return Place(TASKS[task], "adapter" if task == LORA else "model", name)


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file of a model; `name` is relative to its folder, `size` in bytes."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Record:
    """Where a model is from and what its files are: atelier-source.json.

    `repository` is the hub's name of it, an address without its query, or a path under the import folder; `revision`
    a commit. `downloaded_at` is in ISO 8601. `vocoder` is the repository and commit of what lies in vocoder/.
    """

    family: str
    task: str
    source: str
    repository: str
    revision: str | None
    licence: str | None
    downloaded_at: str
    files: tuple[KeptFile, ...]
    vocoder: Mapping[str, Any] | None = field(default=None)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def write(self, folder: Path) -> Path:
        """Put it into the folder."""
        path = folder / RECORD
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return path


def read_record(folder: Path) -> Record | None:
    """What the folder says of itself; None if nothing was downloaded into it."""
    try:
        told = json.loads((folder / RECORD).read_text())
        files = tuple(KeptFile(**entry) for entry in told.pop("files"))
        return Record(files=files, **told)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
