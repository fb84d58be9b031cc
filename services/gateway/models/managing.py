"""What operators do with models: load and unload them, enable and disable them, fetch them again."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.gateway.auth.access import MANAGE_MODELS, allowed
from services.gateway.dependencies import Base, Caller, State
from services.gateway.jobs.preferences import wanted_wait
from services.gateway.jobs.schemas import Accepted
from services.gateway.jobs.service import submit_as
from services.gateway.models.named import InFamily, Name, OfKind
from services.gateway.models.overview import FAILED, pick
from services.gateway.models.schemas import Managed, Resumed, Unloaded
from services.gateway.models.unloading import unload
from services.gateway.responses import json_answer, problems
from services.gateway.state import GatewayState
from shared.accounts.credentials import Principal
from shared.catalog.loading import VERB, LoadReply
from shared.catalog.queries import ModelView
from shared.errors import Conflict, NotFound, ValidationFailed
from workers.families import families, find_operation

Action = Literal["optimize", "retry_download", "update", "enable", "disable"]
ACTION = (
    "optimize: unload it where it is idle, and say what that freed; retry_download: your last download of that name, "
    "which failed, once more; update: fetch the repository's newest revision; enable, disable: let requests use it, "
    "or nobody."
)
FORCE = (
    "For update: fetch all files again although they are the newest; for retry_download: replace what has this name "
    "by now."
)

router = APIRouter(tags=["models"])


@router.post(
    "/models/manage",
    response_model=Managed,
    responses={202: {"model": Managed, "description": "A job does it."}, **problems(400, 404, 409, 422, 429)},
    dependencies=allowed(MANAGE_MODELS),
)
async def manage_model(
    request: Request,
    state: State,
    caller: Caller,
    base: Base,
    action: Annotated[Action, Query(description=ACTION)],
    model_name: Annotated[str, Query(min_length=1, max_length=200)],
    force_redownload: Annotated[bool, Query(description=FORCE)] = False,
    family: InFamily = None,
    kind: OfKind = None,
) -> Response:
    """Do one thing with one model."""
    if force_redownload and action not in ("update", "retry_download"):
        raise ValidationFailed(f"force_redownload does nothing for {action}.", field="force_redownload")
    forced = {"force": True} if force_redownload else {}
    if action == "retry_download":
        operation, body = await _failed_fetch(state, caller, model_name)
        return await _fetch(request, state, caller, base, action, operation, body | forced)
    model = pick(await state.catalog.models_now(), model_name, family, kind, _unknown(model_name))
    if action == "update":
        return await _fetch(request, state, caller, base, action, "models.download", _newest(model) | forced)
    if action == "optimize":
        return json_answer(await _optimize(state, model))
    return json_answer(await _set_disabled(state, model, disabled=action == "disable"))


@router.post(
    "/models/{name}/load",
    status_code=202,
    responses={
        200: {"model": LoadReply, "description": "It is loaded, for a client that waits."},
        202: {"model": Accepted, "description": "A worker will load it."},
        **problems(400, 404, 409, 422, 429),
    },
    dependencies=allowed(MANAGE_MODELS),
)
async def load_model(
    request: Request, name: Name, state: State, caller: Caller, base: Base, family: InFamily = None
) -> Response:
    """Load a model before somebody needs it: a job of its family, which waits (`?wait=`) like any other."""
    model = pick(await state.catalog.models_now(), name, family, "model", _unknown(name))
    choice = families()[model.family], find_operation(f"{model.family}.{VERB}")
    wait = wanted_wait(request, state.settings.max_wait)
    return await submit_as(request, state, caller, base, choice, {"model": model.name}, wait)


@router.post(
    "/models/{name}/unload",
    response_model=Unloaded,
    responses={202: {"model": Unloaded, "description": "Some workers still run jobs with it."}, **problems(404, 409)},
    dependencies=allowed(MANAGE_MODELS),
)
async def unload_model(name: Name, state: State, family: InFamily = None) -> Response:
    """Let every worker give the model's memory back: idle ones now, busy ones after their jobs with it."""
    model = pick(await state.catalog.models_now(), name, family, "model", _unknown(name))
    body = await unload(state, model)
    return json_answer(body, 200 if body["success"] else 202)


@router.post(
    "/models/{name}/resume",
    response_model=Resumed,
    responses=problems(404, 409),
    dependencies=allowed(MANAGE_MODELS),
)
async def resume_model(name: Name, state: State, family: InFamily = None) -> Response:
    """Let a paused model be used again at once. What crashed before counts no more; new crashes pause it again."""
    paused = [breaker for breaker in (await state.breakers.open_now()).values() if breaker.model == name]
    if not any(breaker.family == (family or breaker.family) for breaker in paused):
        model = pick(await state.catalog.models_now(), name, family, "model", _unknown(name))
        return json_answer(_resumed(model.family, name, was_paused=False))
    families = [breaker.family for breaker in paused if breaker.family == (family or breaker.family)]
    if len(families) > 1:
        raise Conflict(f"Several families pause a model {name}; say which with `family`.", details={"family": families})
    closed = await state.breakers.queries.close(families[0], name)
    await state.breakers.open_now()
    return json_answer(_resumed(families[0], name, was_paused=closed))


def _resumed(family: str, name: str, *, was_paused: bool) -> dict[str, Any]:
    message = f"{name} is used again." if was_paused else f"{name} was not paused."
    return {"success": True, "message": message, "model_name": name, "family": family, "was_paused": was_paused}


async def _fetch(
    request: Request,
    state: GatewayState,
    caller: Principal,
    base: str,
    action: Action,
    operation: str,
    body: Mapping[str, Any],
) -> Response:
    """A download or import as a job, answered as its own POST is, with the action."""
    choice, wait = (families()["models"], find_operation(operation)), wanted_wait(request, state.settings.max_wait)
    answer = await submit_as(request, state, caller, base, choice, body, wait)
    told = {"action": action, **json.loads(bytes(answer.body))}
    kept = {name: value for name, value in answer.headers.items() if name not in ("content-length", "content-type")}
    return json_answer(told, answer.status_code, kept)


async def _failed_fetch(state: GatewayState, caller: Principal, name: str) -> tuple[str, dict[str, Any]]:
    """Operation and input of the caller's last download of this name, if it failed."""
    found = await state.catalog.queries.last_fetch(caller.owner, name)
    if found is None:
        raise NotFound(f"You have downloaded no model {name}.")
    operation, job_state, body = found
    if job_state not in FAILED:
        raise Conflict(f"Your last download of {name} did not fail: it is {job_state}.", details={"status": job_state})
    return operation, body


def _newest(model: ModelView) -> dict[str, Any]:
    """The input that fetches the newest revision of where the model is from."""
    if model.source != "huggingface" or not model.repository:
        raise ValidationFailed(
            f"{model.name} has no repository with newer revisions: its source is {model.source}.", field="model_name"
        )
    body = {"source": "huggingface", "model_id": model.repository, "name": model.name, "task": model.task}
    vocoder = model.details.get("vocoder")
    return body | ({"include_vocoder": True, "vocoder_model": vocoder["repository"]} if vocoder else {})


async def _optimize(state: GatewayState, model: ModelView) -> dict[str, Any]:
    answer = await unload(state, model)
    if not answer["workers"]:
        raise ValidationFailed(
            f"Nothing can be done for {model.name}: no worker has it in memory, and files are left as they are.",
            field="model_name",
        )
    return _done("optimize", model, answer)


async def _set_disabled(state: GatewayState, model: ModelView, *, disabled: bool) -> dict[str, Any]:
    await state.catalog.queries.set_disabled(model, disabled)
    await state.catalog.models_now()
    if not disabled:
        return {"success": True, "message": f"{model.name} is enabled.", "action": "enable", "model_name": model.name}
    answer = await unload(state, model)
    return _done("disable", model, answer | {"success": True, "message": f"{model.name} is disabled."})


def _done(action: Action, model: ModelView, answer: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: answer[key] for key in ("success", "message", "workers", "freed_bytes")}
    return {"action": action, "model_name": model.name, **kept}


def _unknown(name: str) -> NotFound:
    return NotFound(f"Model not found: {name}")
