"""Downloads after their POST: how far one is, what it brought, and how it is deleted again."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.gateway.auth.access import MANAGE_MODELS, READ_JOBS, allowed
from services.gateway.dependencies import Base, Caller, JobId, Owner, State, unknown_job
from services.gateway.jobs.preferences import wanted_wait
from services.gateway.jobs.schemas import Accepted
from services.gateway.jobs.service import submit_as
from services.gateway.jobs.status import describe
from services.gateway.models.named import InFamily, Name, OfKind
from services.gateway.models.overview import overview, pick
from services.gateway.models.schemas import Deleted, DownloadStatus, NamedInfo
from services.gateway.responses import json_answer, problems
from shared.errors import Conflict, NotFound
from workers.families import families, find_operation

FETCHES = {"models.download", "models.import"}
STATES = {"queued": "pending", "running": "downloading", "expired": "failed"}
MESSAGES = {
    "queued": "Waits for a worker.",
    "running": "Downloading.",
    "completed": "The model is here.",
    "failed": "The download failed.",
    "cancelled": "The download was cancelled.",
    "expired": "The download did not end in time.",
}
DELETE_SECONDS = 60  # a delete is answered with its outcome, unless the queue is longer than this

router = APIRouter(tags=["models"])


@router.get(
    "/models/download/status/{job_id}",
    response_model=DownloadStatus,
    responses=problems(404),
    dependencies=allowed(READ_JOBS),
)
async def get_download_status(job_id: JobId, state: State, owner: Owner, base: Base) -> Response:
    """How far a download of yours is, in percent and in bytes. Its id is a job's, which GET /status/{id} knows too."""
    found = await state.jobs.result(job_id, owner)
    if found is None or found.job.operation not in FETCHES:
        raise unknown_job()
    status = await describe(state, found.job, base)
    return json_answer(_download_status(status, found.input["name"]))


@router.get(
    "/models/download/{name}/info",
    response_model=NamedInfo,
    responses=problems(404, 409),
    dependencies=allowed(READ_JOBS),
)
async def get_model_info(name: Name, state: State, family: InFamily = None, kind: OfKind = None) -> Response:
    """Everything that is known of a model: where it is from, its files and hashes, what it takes."""
    seen = await overview(state)
    fetch = next((fetch for fetch in seen.missing() if fetch["name"] == name), None)
    if fetch is not None:
        return json_answer({"model_name": name, "info": fetch})
    model = pick(seen.models, name, family, kind, NotFound(f"Model not found: {name}"))
    return json_answer({"model_name": name, "info": seen.describe(model)})


@router.delete(
    "/models/download/{name}",
    response_model=Deleted,
    responses={
        202: {"model": Accepted, "description": "The job that deletes it has not ended yet."},
        **problems(400, 404, 409, 422, 429),
    },
    dependencies=allowed(MANAGE_MODELS),
)
async def delete_model(
    request: Request,
    name: Name,
    state: State,
    caller: Caller,
    base: Base,
    family: InFamily = None,
    kind: OfKind = None,
) -> Response:
    """Delete a model's files. A job does it, as for downloads; the answer waits for that job, a minute at most."""
    models = await state.catalog.models_now()
    model = pick(models, name, family, kind, NotFound(f"Model not found in cache: {name}"))
    if model.source == "house":
        raise Conflict(f"{name} is a house model: it is part of Atelier and stays.")
    body = {"family": model.family, "kind": model.kind, "name": model.name}
    wait = wanted_wait(request, state.settings.max_wait) or min(DELETE_SECONDS, state.settings.max_wait)
    choice = families()["models"], find_operation("models.delete")
    answer = await submit_as(request, state, caller, base, choice, body, wait)
    if answer.status_code == 200:
        await state.catalog.queries.remove(model)
        await state.catalog.models_now()
    return answer


def _download_status(status: dict[str, Any], name: str) -> dict[str, Any]:
    error = status["error"] or {}
    told = error.get("message") if status["status"] == "failed" else None
    return {
        "download_id": status["job_id"],
        "job_id": status["job_id"],
        "model_name": name,
        "status": STATES.get(status["status"], status["status"]),
        "progress": status["progress"],
        "eta": status["estimated_remaining"],
        "message": told or MESSAGES[status["status"]],
        "downloaded_bytes": status["step"],
        "total_bytes": status["total_steps"],
        "error": error.get("code") if status["status"] in ("failed", "expired") else None,
        "status_url": status["status_url"],
    }
