"""The gateway: HTTP in, rows out. It holds no state and no torch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import Response

from services.gateway.auth import endpoints as auth
from services.gateway.auth.access import document_access, require_access
from services.gateway.errors import Problem, install_error_handlers, problem, request_id_of, validation_failed
from services.gateway.health.endpoints import health_router
from services.gateway.jobs import endpoints as jobs
from services.gateway.jobs.documents import operation_schemas
from services.gateway.jobs.submit import submit_router
from services.gateway.lifespan import gateway_state
from services.gateway.metrics import endpoints as metrics
from services.gateway.middleware import (
    AccessLog,
    AnswerHeaders,
    RequestCounts,
    RequestIds,
    SyncBasePath,
    UnexpectedErrors,
)
from services.gateway.models.endpoints import models_router
from services.gateway.results import endpoints as results
from services.gateway.server.endpoints import server_router
from services.gateway.speech import endpoints as speech
from services.gateway.uploads import endpoints as uploads
from services.gateway.usage import endpoints as usage
from services.gateway.version import PLATFORM_VERSION
from services.gateway.webhooks import endpoints as webhooks
from shared.database_faults import FAULTS, refusal
from shared.family import Family
from shared.settings import Settings

DESCRIPTION = """
POST a request and get a job id at once; follow `/status/{id}`, collect `/results/{id}`.
With `Prefer: wait=N`, or under the base path `/sync`, the answer is the result itself.
"""


def make_app(settings: Settings, families: dict[str, Family]) -> FastAPI:
    """The application for these settings and families."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with gateway_state(app, settings):
            yield

    app = FastAPIOffline(  # /docs and /redoc without anybody's CDN
        title="Atelier",
        version=PLATFORM_VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        servers=[{"url": "/", "description": "asynchronous"}, {"url": "/sync", "description": "waits by default"}],
    )
    for router in (
        health_router(families),
        submit_router(families),
        jobs.router,
        results.router,
        uploads.router,
        models_router(families),
        speech.router,
        metrics.router,
        server_router(families),
        webhooks.router,
        usage.router,
    ):
        app.include_router(router)
    app.include_router(auth.router, include_in_schema=settings.enable_auth)  # where it is off they answer that it is
    require_access(app)
    install_error_handlers(app)
    _install_seams(app)
    _install_schemas(app, families)
    if settings.enable_auth:
        document_access(app)
    for middleware in (UnexpectedErrors, RequestCounts, SyncBasePath):  # the last one is the outermost
        app.add_middleware(middleware)
    if settings.cors_origins:  # never with credentials: a key or token is sent on purpose, a cookie is not
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    if settings.trusted_hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=settings.trusted_hosts, www_redirect=False)
    app.add_middleware(AnswerHeaders, hsts_seconds=settings.hsts_seconds)
    if settings.access_log:
        app.add_middleware(AccessLog)
    app.add_middleware(RequestIds)
    return app


def _install_seams(app: FastAPI) -> None:
    """Framework and driver errors become ours."""

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        found = [{**entry, "loc": entry["loc"][1:]} for entry in error.errors()]
        return problem(validation_failed(found, {}), request_id_of(request))

    async def _fault(request: Request, error: Exception) -> Response:
        told = refusal(error)
        if told is None:
            raise error
        return problem(told, request_id_of(request))

    for kind in FAULTS:
        app.add_exception_handler(kind, _fault)


def _install_schemas(app: FastAPI, families: dict[str, Family]) -> None:
    """Add the operations' schemas to the OpenAPI, and take out FastAPI's own 422, which is never sent."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            schemas = document["components"]["schemas"]
            ours = operation_schemas(families) | {"Problem": Problem.model_json_schema()}
            if clash := schemas.keys() & ours.keys():
                raise RuntimeError(f"two schemas have one name: {', '.join(sorted(clash))}")
            schemas |= ours
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            for path in document["paths"].values():
                for operation in path.values():
                    if "HTTPValidationError" in str(operation["responses"].get("422")):
                        del operation["responses"]["422"]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
