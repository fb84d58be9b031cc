"""A job without the platform: its progress is a bar, its artifacts are files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tqdm import tqdm


class ConsoleJob:
    """See `workers.runtime.runner.Job`; `place` says where the artifact of a name goes."""

    id = "console"
    wants_preview = cancelled = False
    inputs: Mapping[str, Path] = {}

    def __init__(self, operation: str, unit: str, place: Callable[[str], Path]) -> None:
        self.operation, self._place, self._bar = operation, place, tqdm(unit=unit)

    def progress(self, step: int, total: int, preview: Callable[[], bytes] | None = None) -> None:
        self._bar.total = total
        self._bar.update(step - self._bar.n)

    def save(self, name: str, content: bytes, media_type: str) -> None:
        path = self._place(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self._bar.write(str(path))
