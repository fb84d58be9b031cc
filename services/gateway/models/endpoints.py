"""Models: what can be asked for, and what is loaded (reference API 001)."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from services.gateway.auth.access import PUBLIC, READ_JOBS, allowed
from services.gateway.dependencies import State
from services.gateway.models.service import model_status
from services.gateway.responses import problems
from shared.family import Family


class ModelStatus(BaseModel):
    """001's model status, with all that can be asked for."""

    model_config = ConfigDict(protected_namespaces=())

    loaded: bool
    lora_available: bool
    device: str | None
    model_info: dict[str, Any] | None
    models: list[dict[str, Any]]
    workers: list[dict[str, Any]]


class Example(BaseModel):
    """A prompt to start from."""

    name: str
    prompt: str
    negative_prompt: str


class Examples(BaseModel):
    """Prompts to start from."""

    examples: list[Example]


def models_router(families: dict[str, Family]) -> APIRouter:
    """GET /models/status and GET /examples."""
    router = APIRouter(tags=["models"])

    @router.get("/models/status", response_model=ModelStatus, responses=problems(), dependencies=allowed(READ_JOBS))
    async def get_model_status(state: State) -> dict[str, Any]:
        """Whether a live worker holds a picture model in memory, and every model and LoRA that can be named."""
        return await model_status(state)

    @router.get("/examples", response_model=Examples, responses=problems(), dependencies=allowed(PUBLIC))
    async def get_examples() -> dict[str, Any]:
        """Example prompts."""
        return {"examples": [dict(example) for family in families.values() for example in family.examples]}

    return router
