"""What the models family does and answers: models are downloaded, imported, verified and deleted by jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from shared.egress.urls import without_query
from shared.family import CompletedJob, Family, Operation, Schema
from workers.models.checks import checked_download, checked_import
from workers.models.inputs import DownloadInput, ImportInput, ModelInput

MAX_HOURS = 12
ACCESS = "models:manage"


class DownloadReply(Schema):
    """What became of a download or an import."""

    success: bool
    download_id: str
    message: str
    model_name: str
    source: str
    model_id: str
    status: Literal["completed", "already_exists"]
    estimated_time: float | None = Field(description="Seconds that are left: none.")
    download_info: dict[str, Any] = Field(
        description="family, task, kind, revision (the commit), licence, size_bytes, files, vocoder."
    )
    error: str | None = None


class DeleteReply(Schema):
    """What was deleted."""

    success: bool
    message: str
    model_name: str
    freed_bytes: int


class Problem(Schema):
    """A file that is not what it was."""

    file: str
    problem: Literal["missing", "size", "sha256"]


class VerifyReply(Schema):
    """Whether the files on the disk are those that were downloaded."""

    success: bool = Field(description="Whether they are.")
    message: str
    model_name: str
    files: int
    size_bytes: int
    problems: list[Problem]


def shown_id(source: str, model_id: str) -> str:
    """What is told of where a model is from: an address's query may be a secret."""
    return without_query(model_id) if source == "url" else model_id


def _begun(source: str, model_id: str, name: str, job_id: str, info: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "success": True,
        "download_id": job_id,
        "message": f"{name} is being fetched; GET /status/{job_id} tells how far it is.",
        "model_name": name,
        "source": source,
        "model_id": model_id,
        "status": "downloading",
        "estimated_time": None,
        "download_info": dict(info),
    }


def _download_begun(job_id: str, request: DownloadInput) -> Mapping[str, Any]:
    info = {"task": request.task, "revision": request.revision}
    return _begun(request.source, shown_id(request.source, request.model_id), request.name, job_id, info)


def _import_begun(job_id: str, request: ImportInput) -> Mapping[str, Any]:
    return _begun("import", request.path, request.name, job_id, {"task": request.task, "revision": None})


def _fetched(job: CompletedJob) -> dict[str, Any]:
    return {"success": True, "download_id": job.id, "estimated_time": None, "error": None, **job.output}


def _as_it_is(job: CompletedJob) -> Mapping[str, Any]:
    return job.output


DOWNLOAD = Operation(
    name="models.download",
    paths=("/models/download",),
    input=DownloadInput,
    reply_schema=DownloadReply,
    reply=_fetched,
    summary="Download a model",
    description="A job: progress in bytes, resumed after a crash, cancelled within a second. Only safetensors and "
    "ONNX files with their configuration are taken, each checked by size and hash; code and pickles never are.",
    examples={"an ear": {"source": "huggingface", "model_id": "openai/whisper-tiny", "name": "whisper-tiny"}},
    resolve=checked_download,
    accepted=_download_begun,
    access=ACCESS,
    reply_needs_files=False,
)

IMPORT = Operation(
    name="models.import",
    paths=("/models/import",),
    input=ImportInput,
    reply_schema=DownloadReply,
    reply=_fetched,
    summary="Import a model from the server's own disk",
    description="Copies a folder under ATELIER_IMPORT_DIR, with the same checks as a download.",
    examples={"a folder": {"path": "my-bert", "name": "my-bert", "task": "fill-mask"}},
    resolve=checked_import,
    accepted=_import_begun,
    access=ACCESS,
    reply_needs_files=False,
)

DELETE = Operation(
    name="models.delete",
    paths=(),
    input=ModelInput,
    reply_schema=DeleteReply,
    reply=_as_it_is,
    summary="Delete a downloaded model",
    description="Its folder, and what an unfinished download of that name left.",
    examples={},
    access=ACCESS,
    reply_needs_files=False,
)

VERIFY = Operation(
    name="models.verify",
    paths=(),
    input=ModelInput,
    reply_schema=VerifyReply,
    reply=_as_it_is,
    summary="Verify a downloaded model",
    description="Reads every file again and compares its size and its hash.",
    examples={},
    access=ACCESS,
    reply_needs_files=False,
)

MODELS = Family(
    name="models",
    title="Models",
    max_runtime=MAX_HOURS * 3600,
    operations=(DOWNLOAD, IMPORT, DELETE, VERIFY),
    discover=lambda: (),
)
