"""GET /info, /stats and /config of the reference API 004: figures that were measured, settings without secrets."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from services.gateway.auth.access import READ_JOBS, READ_OPS, allowed
from services.gateway.dependencies import State
from services.gateway.responses import json_answer, problems
from services.gateway.server.config import configuration
from services.gateway.server.info import info
from services.gateway.server.schemas import Configuration, Info, Stats
from services.gateway.server.stats import stats
from shared.family import Family


def server_router(families: dict[str, Family]) -> APIRouter:
    """What this server is, how it is set up, and how it does."""
    router = APIRouter(tags=["server"])

    @router.get("/info", response_model=Info, responses=problems(), dependencies=allowed(READ_JOBS))
    async def get_info(state: State) -> Response:
        """What is served here, what is in memory, and how speech stands."""
        return json_answer(await info(state, families))

    @router.get("/stats", response_model=Stats, responses=problems(), dependencies=allowed(READ_OPS))
    async def get_stats(state: State) -> Response:
        """Predictions: how many, how fast, what waits. Over all owners; null is what nobody measured."""
        return json_answer(await stats(state))

    @router.get("/config", response_model=Configuration, responses=problems(), dependencies=allowed(READ_OPS))
    async def get_config(state: State) -> dict[str, Any]:
        """How this server is set up. No secrets, and no addresses of other servers."""
        return await configuration(state, families)

    return router
