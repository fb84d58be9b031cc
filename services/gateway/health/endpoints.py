"""GET / (the map), /health and /ready."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse, Response

from services.gateway.auth.access import PROBE, allowed
from services.gateway.dependencies import State
from services.gateway.health.service import PROFILES, check_servers, health
from services.gateway.health.set_aside import families_without_workers
from services.gateway.responses import json_answer, problems
from services.gateway.version import API_VERSION, PLATFORM_VERSION
from shared.errors import Unavailable
from shared.family import Family

OBJECT = {"content": {"application/json": {"schema": {"type": "object"}}}}


def health_router(families: dict[str, Family]) -> APIRouter:
    """The routes that tell whether and what is served."""
    router = APIRouter(tags=["health"], dependencies=allowed(PROBE))

    @router.get("/", responses={200: {"description": "The map of this API.", **OBJECT}, **problems()})
    async def get_map(state: State) -> dict[str, Any]:
        """What this is and where everything is."""
        posts = {
            f"POST {path}": operation.summary
            for family in families.values()
            for operation in family.operations
            for path in operation.paths
        }
        return {
            "title": "Atelier",
            "message": "Atelier is running. POST a request, follow its status, collect its result.",
            "status": "running",
            "version": API_VERSION,
            "platform_version": PLATFORM_VERSION,
            "docs": "/docs",
            "flower": state.settings.flower_url,
            "endpoints": posts | ENDPOINTS,
        }

    @router.get(
        "/health", responses={200: {"description": "Also when unhealthy: see `healthy`.", **OBJECT}, **problems(400)}
    )
    async def get_health(
        state: State,
        profile: Annotated[
            Literal["sd", "aetherist"] | None, Query(description="Only the keys of one reference API.")
        ] = None,
    ) -> Response:
        """Health of the gateway and what it stands on. Always 200 while the gateway answers; /ready has the 503."""
        body = await health(state)
        if profile:
            body = {key: body[key] for key in PROFILES[profile]}
        return json_answer(body)

    @router.get("/ready", responses={200: {"description": "Requests can be accepted.", **OBJECT}, **problems()})
    async def get_ready(state: State) -> Response:
        """200 if jobs can be accepted and results read, else 503. Redis is not needed for that, and no worker either:
        jobs of `families_without_workers`, whose devices are all in quarantine, are kept for them.
        """
        checks = await check_servers(state)
        broken = [name for name in ("database", "storage") if not checks[name]["ok"]]
        if broken or state.draining:
            what = ", ".join(broken) or "this gateway is stopping"
            raise Unavailable(f"Not ready: {what}.", details={"checks": checks}, headers={"Retry-After": "2"})
        without = families_without_workers(await state.fleet.workers())
        return JSONResponse({"ready": True, "checks": checks, "families_without_workers": without})

    return router


ENDPOINTS = {
    "GET /status/{id}": "The status of a job",
    "GET /status/{id}/events": "The same as server-sent events",
    "POST /jobs/{id}/cancel": "Cancel a job",
    "GET /jobs": "Your jobs",
    "DELETE /jobs/{id}": "Forget an ended job",
    "GET /results/{id}": "The result as a resumable ZIP",
    "GET /results/{id}/files/{name}": "One file of it",
    "GET /models": "The models that are here",
    "GET /models/status": "Models and LoRAs, and which are loaded",
    "GET /models/available": "Models worth downloading",
    "GET /models/managed": "Models on the disk and in memory",
    "GET /models/cache/info": "What the models take",
    "GET /models/download/status/{id}": "How far a download is",
    "GET /models/download/{name}/info": "All about one model",
    "DELETE /models/download/{name}": "Delete a downloaded model",
    "POST /models/manage": "Enable, disable, update, retry, optimize a model",
    "POST /models/{name}/load": "Load a model before it is needed",
    "POST /models/{name}/unload": "Give a model's memory back",
    "POST /models/{name}/resume": "Use a paused model again",
    "GET /examples": "Example prompts",
    "GET /health": "Health",
    "GET /audio/health": "What can speak and hear",
    "GET /tts/health": "What can speak: models, voices, languages",
    "GET /ready": "Readiness",
    "GET /info": "What is served, and how it does",
    "GET /stats": "Predictions, counted and timed",
    "GET /config": "How this server is set up",
    "GET /metrics": "Metrics, JSON or Prometheus by Accept",
    "POST /auth/register": "A new account (where authentication is on)",
    "POST /auth/login": "Sign in",
    "POST /auth/generate-key": "A key for programs",
    "GET /auth/profile": "Your account",
}
