"""A speech model on this machine's disk, as its files describe it. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class SpeechModel:
    """A model that can be served: `engine` is `module:Class`, `config` its config.json, `card` its atelier.json.

    The house voice is no folder: its `path` is None.
    """

    name: str
    path: Path | None
    task: str
    engine: str
    config: dict[str, Any] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where its files are; only for models that have some."""
        assert self.path is not None
        return self.path
