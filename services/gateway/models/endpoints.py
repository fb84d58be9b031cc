"""Models: what can be asked for, what is loaded, what can be had (reference APIs 001 and 004)."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from services.gateway.auth.access import PUBLIC, READ_JOBS, allowed
from services.gateway.dependencies import State
from services.gateway.models import downloads, managing
from services.gateway.models.listings import available, cache_info, managed, model_list
from services.gateway.models.overview import overview
from services.gateway.models.schemas import AvailableModels, CacheInfo, ManagedModels, ModelList, ModelStatus
from services.gateway.models.service import model_status
from services.gateway.responses import json_answer, problems
from shared.family import Family


class Example(BaseModel):
    """A prompt to start from."""

    name: str
    prompt: str
    negative_prompt: str


class Examples(BaseModel):
    """Prompts to start from."""

    examples: list[Example]


def models_router(families: dict[str, Family]) -> APIRouter:
    """All routes under /models but those that the specs declare, and GET /examples."""
    router = APIRouter(tags=["models"])

    @router.get("/models", response_model=ModelList, responses=problems(), dependencies=allowed(READ_JOBS))
    async def get_models(state: State) -> Response:
        """Every model that is here, by name and by task, with its files and the workers that have it in memory."""
        return json_answer(model_list(await overview(state)))

    @router.get("/models/status", response_model=ModelStatus, responses=problems(), dependencies=allowed(READ_JOBS))
    async def get_model_status(state: State) -> dict[str, Any]:
        """Whether a live worker holds a picture model in memory, and every model and LoRA that can be named."""
        return await model_status(state)

    @router.get(
        "/models/available", response_model=AvailableModels, responses=problems(), dependencies=allowed(READ_JOBS)
    )
    async def get_available_models(state: State) -> Response:
        """A short list of models worth downloading, and how far each of them is."""
        return json_answer(available(await overview(state)))

    @router.get("/models/managed", response_model=ManagedModels, responses=problems(), dependencies=allowed(READ_JOBS))
    async def get_managed_models(state: State) -> Response:
        """The models on the disk: which are in memory, and what they take there as workers measured it."""
        return json_answer(managed(await overview(state)))

    @router.get("/models/cache/info", response_model=CacheInfo, responses=problems(), dependencies=allowed(READ_JOBS))
    async def get_cache_info(state: State) -> Response:
        """What the models take on the disk, and how often a job found its model in memory."""
        return json_answer(cache_info(await overview(state), state.settings.models_dir.name))

    @router.get("/examples", response_model=Examples, responses=problems(), dependencies=allowed(PUBLIC))
    async def get_examples() -> dict[str, Any]:
        """Example prompts."""
        return {"examples": [dict(example) for family in families.values() for example in family.examples]}

    router.include_router(downloads.router)
    router.include_router(managing.router)
    return router
