"""What a download fetches: decided once from what the hub says, and kept for the attempts that follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from shared.catalog.tasks import TEXT_TO_SPEECH
from workers.models.faults import HubRefused
from workers.models.hub import Hub, Repository
from workers.models.inputs import DownloadInput
from workers.models.rules import DEFAULT_TASK, SYNONYMS, TASKS, VOCODER
from workers.models.scanning import components
from workers.models.selection import INDEX, Layout, layout_of, select

DECISIVE = (
    *("source", "model_id", "task", "revision", "sha256"),
    *("auto_convert_tts", "include_vocoder", "vocoder_model"),
)  # the fields of a request that decide what is fetched
SPEECHT5 = "speecht5"  # how the hub tags models that make a spectrogram, which needs a vocoder to be heard


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file of a model: `name` in its folder, and where it is from: the `path` in a repository, or an address.

    Of one at an address `version` is the ETag.
    """

    name: str
    repository: str
    path: str
    revision: str | None
    size: int
    sha256: str | None
    blob: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All of a download; `asked` is what of the request led to it."""

    asked: Mapping[str, Any]
    task: str
    repository: str
    revision: str | None
    licence: str | None
    vocoder: Mapping[str, Any] | None
    files: tuple[PlannedFile, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(file.size for file in self.files)

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def read_plan(told: Mapping[str, Any] | None, asked: Mapping[str, Any]) -> Plan | None:
    """The kept plan, if it is what the request asks for."""
    try:
        if told is None or told["asked"] != asked:
            return None
        return Plan(**{**told, "files": tuple(PlannedFile(**entry) for entry in told["files"])})
    except (TypeError, KeyError):  # of another release
        return None


def asked_for(request: DownloadInput) -> dict[str, Any]:
    """What two requests must have in common to fetch the same."""
    return {name: getattr(request, name) for name in DECISIVE}


def plan_repository(hub: Hub, request: DownloadInput) -> Plan:
    """What to fetch of the request's repository, pinned to a commit; raises HubRefused, HubUnavailable, UnsafeModel."""
    found = hub.repository(request.model_id, request.revision)
    task = _task(request, found)
    layout = layout_of(task)
    chosen, found = _selected(hub, found, layout, pinned=request.revision is not None)
    files = _planned(found, chosen)
    vocoder = None
    if name := _vocoder(request, found):
        second = hub.repository(name, None)
        chosen, second = _selected(hub, second, Layout.TRANSFORMERS, pinned=False)
        files += _planned(second, {path: f"vocoder/{place}" for path, place in chosen.items()})
        vocoder = {"repository": name, "revision": second.commit, "licence": second.licence}
    small_first = sorted(files, key=lambda file: file.size)  # what is refused is refused before gigabytes are fetched
    return Plan(asked_for(request), task, found.name, found.commit, found.licence, vocoder, tuple(small_first))


def _task(request: DownloadInput, found: Repository) -> str:
    if request.task:
        return request.task
    if request.source == "tts_auto" or request.auto_convert_tts:
        return TEXT_TO_SPEECH
    task = SYNONYMS.get(found.task or "", found.task) or DEFAULT_TASK
    if task not in TASKS:
        raise HubRefused(f"The hub says that {found.name} is for {task}, which no family serves; say what it is for.")
    return task


def _selected(hub: Hub, found: Repository, layout: Layout, *, pinned: bool) -> tuple[dict[str, str], Repository]:
    """The files to take and the commit that has them: the hub's own conversion, if there are pickles alone."""
    weights = (".onnx",) if layout is Layout.ONNX else (".safetensors",)
    if not pinned and layout is Layout.TRANSFORMERS and not any(name.endswith(weights) for name in found.files):
        found = hub.converted(found) or found
    folders: list[str] = []
    if layout is Layout.DIFFUSERS and INDEX in found.files:
        folders = components(hub.document(found, INDEX))
    return select(found.files, layout, folders), found


def _planned(found: Repository, chosen: Mapping[str, str]) -> list[PlannedFile]:
    planned = []
    for path, name in chosen.items():
        file = found.files[path]
        planned.append(PlannedFile(name, found.name, path, found.commit, file.size, file.sha256, file.blob))
    return planned


def _vocoder(request: DownloadInput, found: Repository) -> str | None:
    if request.include_vocoder or request.vocoder_model:
        return request.vocoder_model or VOCODER
    speaks = request.source == "tts_auto" or request.auto_convert_tts
    return VOCODER if speaks and SPEECHT5 in found.kinds else None
