"""Copies a model from the operator's own folder, with the same checks as a download."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG

from shared.settings import Settings
from workers.models.digests import CHUNK, Digests
from workers.models.disk import Disk
from workers.models.faults import NameTaken
from workers.models.inputs import ImportInput
from workers.models.places import KeptFile, Place, Record, place_of, read_record
from workers.models.progress import Progress
from workers.models.rules import file_problem
from workers.models.scanning import components, scan, scan_json
from workers.models.selection import INDEX, LORA_FILE, ONNX_FILE, Layout, layout_of, select
from workers.models.workspace import Workspace
from workers.runtime.runner import InputRejected


class Import:
    """Of one request, for one job."""

    def __init__(self, settings: Settings, request: ImportInput, progress: Progress) -> None:
        self._settings, self._request, self._progress = settings, request, progress
        self._space = Workspace(settings.models_dir, request.name)
        self._disk = Disk(settings.models_dir, settings.models_reserve_bytes)

    def run(self) -> tuple[Record, Place, bool]:
        """The model's record and place; never was it there already. Use it within the workspace's lock."""
        place = place_of(self._request.task, self._request.name)
        folder = place.path(self._settings.models_dir)
        if folder.exists() and not (self._request.force and read_record(folder)):
            raise NameTaken(f'{place.name} is there already; choose another name, or "force": true.')
        if place.by_hand(self._settings.models_dir).exists():
            raise NameTaken(f"{place.name} was put there by hand and is not replaced; choose another name.")
        files = self._chosen(self._source())
        self._progress.total = sum(path.stat().st_size for path in files.values())
        self._disk.require(self._progress.total)
        self._space.begin({})
        kept = [self._copy(number, path, name) for number, (name, path) in enumerate(files.items())]
        record = Record(
            family=place.family,
            task=self._request.task,
            source="import",
            repository=self._request.path,
            revision=None,
            licence=self._request.licence,
            downloaded_at=datetime.now(UTC).isoformat(timespec="seconds"),
            files=tuple(sorted(kept, key=lambda file: file.name)),
        )
        record.write(self._space.files)
        self._space.publish(folder)
        return record, place, False

    def _source(self) -> Path:
        """What the path names; a link that leads out of the import folder is refused like a path that does."""
        if self._settings.import_dir is None:
            raise InputRejected("Nothing can be imported: ATELIER_IMPORT_DIR names no folder.")
        root = self._settings.import_dir.resolve()
        path = (root / self._request.path).resolve()
        if not path.is_relative_to(root) or not path.exists():
            raise InputRejected("path: there is nothing of this name under ATELIER_IMPORT_DIR.")
        return path

    def _chosen(self, source: Path) -> dict[str, Path]:
        """What to copy, by its name in the model's folder."""
        layout = layout_of(self._request.task)
        if source.is_file():
            if problem := file_problem(source.name, self._request.task):
                raise InputRejected(f"path: {problem}")
            return {LORA_FILE if layout is Layout.LORA else ONNX_FILE: source}
        there = {
            path.relative_to(source).as_posix(): path for path in source.rglob("*") if S_ISREG(path.lstat().st_mode)
        }
        folders = components(scan_json(there[INDEX], INDEX)) if layout is Layout.DIFFUSERS and INDEX in there else []
        return {name: there[path] for path, name in select(there, layout, folders).items()}

    def _copy(self, number: int, source: Path, name: str) -> KeptFile:
        part = self._space.part(number)
        part.parent.mkdir(exist_ok=True)
        digests, size = Digests(source.stat().st_size), 0
        with self._disk.translated(), source.open("rb") as original, part.open("wb") as copy:
            while piece := original.read(CHUNK):
                copy.write(piece)
                digests.update(piece)
                size += len(piece)
                self._disk.written(len(piece))
                self._progress.add(len(piece))
        scan(part, name)
        self._space.keep(part, name)
        return KeptFile(name, size, digests.sha256)
