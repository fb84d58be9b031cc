"""Runs the models family's jobs: no device, no torch, only the disk and the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from shared.egress.client import Egress
from shared.settings import get_settings
from workers.models.download import Download
from workers.models.importing import Import
from workers.models.inputs import DownloadInput, ImportInput, ModelInput
from workers.models.places import Place, Record, read_record
from workers.models.progress import Progress
from workers.models.spec import DELETE, VERIFY, shown_id
from workers.models.verifying import problems_of
from workers.models.workspace import Workspace, sweep
from workers.runtime.runner import InputRejected, Job, JobStopped, RunnerError


class ModelsRunner:
    """Holds no model: it brings and removes them."""

    def setup(self, device: str, model: str) -> None:
        self._settings = get_settings()
        self._egress = Egress(self._settings.egress_ports, self._settings.egress_networks)
        sweep(self._settings.models_dir)

    def run(self, request: BaseModel, job: Job) -> dict[str, Any]:
        progress = Progress(job)
        if isinstance(request, DownloadInput):
            download = Download(self._settings, self._egress, request, progress)
            return self._brought(request.name, request.source, request.model_id, download.run, progress)
        if isinstance(request, ImportInput):
            return self._brought(
                request.name, "import", request.path, Import(self._settings, request, progress).run, progress
            )
        assert isinstance(request, ModelInput)
        return {DELETE.name: self._delete, VERIFY.name: self._verify}[job.operation](request, progress)

    def status(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass

    def _brought(
        self, name: str, source: str, model_id: str, bring: Callable[[], tuple[Record, Place, bool]], progress: Progress
    ) -> dict[str, Any]:
        space = Workspace(self._settings.models_dir, name)
        with space.locked(progress.tell):
            try:
                record, place, already = bring()
            except RunnerError as error:
                if not error.retryable:  # nobody goes on with it
                    space.discard()
                raise
            except JobStopped as stopped:
                if "cancelled" in map(str, stopped.args):  # a drained or lost one goes on elsewhere
                    space.discard()
                raise
        info = {
            "family": place.family,
            "kind": place.kind,
            "task": record.task,
            "revision": record.revision,
            "licence": record.licence,
            "size_bytes": record.size,
            "files": [{"name": file.name, "size": file.size, "sha256": file.sha256} for file in record.files],
            "vocoder": record.vocoder,
        }
        return {
            "message": f"{name} is there already, and whole." if already else f"{name} is ready.",
            "model_name": name,
            "source": source,
            "model_id": shown_id(source, model_id),
            "status": "already_exists" if already else "completed",
            "download_info": info,
        }

    def _delete(self, request: ModelInput, progress: Progress) -> dict[str, Any]:
        place = Place(request.family, request.kind, request.name)
        space = Workspace(self._settings.models_dir, request.name)
        with space.locked(progress.tell):
            folder = place.path(self._settings.models_dir)
            record = read_record(folder)
            begun = space.removing()
            if folder.exists() and record is None:
                raise InputRejected(f"{request.name} was put there by hand; remove it by hand.")
            if record is None and not begun:
                raise InputRejected(f"Model not found in cache: {request.name}")
            space.remove(folder)
        return {
            "success": True,
            "message": f"{request.name} is deleted.",
            "model_name": request.name,
            "freed_bytes": record.size if record else 0,
        }

    def _verify(self, request: ModelInput, progress: Progress) -> dict[str, Any]:
        folder = Place(request.family, request.kind, request.name).path(self._settings.models_dir)
        record = read_record(folder)
        if record is None:
            raise InputRejected(f"Model not found in cache: {request.name}")
        progress.total = record.size
        problems = problems_of(folder, record, progress.add)
        said = f"{len(problems)} of {len(record.files)} files are not what they were." if problems else "All is whole."
        return {
            "success": not problems,
            "message": said,
            "model_name": request.name,
            "files": len(record.files),
            "size_bytes": record.size,
            "problems": problems,
        }
