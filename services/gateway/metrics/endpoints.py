"""GET /metrics: the gateway's counters and the database's jobs, as JSON or for Prometheus."""

from typing import Any

from fastapi import APIRouter, Request
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0, generate_latest
from starlette.responses import JSONResponse, Response

from services.gateway.auth.access import READ_OPS, allowed
from services.gateway.dependencies import State
from services.gateway.metrics.service import metrics_json, prometheus_lines
from services.gateway.responses import problems

router = APIRouter(tags=["metrics"], dependencies=allowed(READ_OPS))
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "JSON, or the Prometheus exposition if Accept names text first.",
        "content": {"application/json": {"schema": {"type": "object"}}, "text/plain": {"schema": {"type": "string"}}},
    },
    **problems(),
}


@router.get("/metrics", responses=RESPONSES)
async def get_metrics(request: Request, state: State) -> Response:
    """Counters that count. `Accept: text/plain` gives the Prometheus exposition."""
    if _wants_text(request.headers.get("accept", "")):
        return await get_prometheus(state)
    return JSONResponse(await metrics_json(state))


@router.get(
    "/metrics/prometheus",
    responses={
        200: {"description": "Prometheus exposition.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **problems(),
    },
)
async def get_prometheus(state: State) -> Response:
    """The Prometheus exposition."""
    content = generate_latest(state.counters.registry()) + await prometheus_lines(state)
    return Response(content, headers={"Content-Type": CONTENT_TYPE_PLAIN_1_0_0})


def _wants_text(accept: str) -> bool:
    for part in accept.lower().split(","):
        media_type = part.split(";")[0].strip()
        if media_type in ("text/plain", "application/openmetrics-text", "text/*"):
            return True
        if media_type in ("*/*", "application/json", "application/*"):
            return False
    return False
