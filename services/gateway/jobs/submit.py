"""The POST routes, drawn from the families' specs: a new operation needs no code here.

This module builds routes in a loop and so must not postpone the evaluation of annotations.
"""

import re
from collections import defaultdict
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.gateway.auth.access import AllowSubmit, allowed
from services.gateway.dependencies import Base, State, Submitter
from services.gateway.jobs.bodies import Choice
from services.gateway.jobs.documents import path_parameters, replies, request_body
from services.gateway.jobs.schemas import Accepted
from services.gateway.jobs.service import submit
from services.gateway.responses import problems
from shared.family import Family, path_fields

PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "wait",
        "in": "query",
        "description": "Wait up to so many seconds for the result.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 999999},
    },
    {
        "name": "Prefer",
        "in": "header",
        "description": "`wait=N` waits up to N seconds for the result; `respond-async` answers at once.",
        "schema": {"type": "string", "examples": ["wait=20"]},
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The same key with the same body makes one job, for 24 hours.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
    },
    {
        "name": "X-Priority",
        "in": "header",
        "description": "0 to 9; higher goes first. The body's `priority` wins.",
        "schema": {"type": "string", "pattern": "^[0-9]$"},
    },
    {
        "name": "X-Webhook-URL",
        "in": "header",
        "description": "Where to POST what becomes of this job; for arrays, which have no place for `webhook_url`.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 2048},
    },
    {
        "name": "X-Webhook-Events",
        "in": "header",
        "description": "What X-Webhook-URL is told, separated by commas; left out, how the job ended.",
        "schema": {"type": "string", "examples": ["job.started,job.completed"]},
    },
]
ACCEPTED_HEADERS = {
    "Location": {"description": "The status address.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}},
}


def submit_router(families: dict[str, Family]) -> APIRouter:
    """One POST route a path; operations that share a path are told apart by their bodies."""
    router = APIRouter()
    by_path: dict[str, list[Choice]] = defaultdict(list)
    for family in families.values():
        for operation in family.operations:
            for path in operation.paths:
                by_path[path].append((family, operation))
    for path, choices in sorted(by_path.items(), key=lambda entry: len(path_fields(entry[0]))):  # fixed ones first
        batch = f"{path}/batch"
        takes_arrays = any(operation.accepts([]) for _, operation in by_path.get(batch, ()))
        _add_route(router, path, choices, batch if takes_arrays else None)
    return router


def _add_route(router: APIRouter, path: str, choices: list[Choice], batch: str | None) -> None:
    operations = [operation for _, operation in choices]
    (scope,) = {operation.access for operation in operations}  # who may use a path is known before its body is read
    access = AllowSubmit(scope)

    async def post(request: Request, state: State, submitter: Submitter, base: Base) -> Response:
        return await submit(request, state, submitter, base, choices, batch, access)

    router.add_api_route(
        path,
        post,
        methods=["POST"],
        status_code=202,
        operation_id="post" + re.sub("[{}]", "", path).replace("/", "_"),
        tags=[choices[0][0].name],
        dependencies=allowed(access),
        summary=operations[0].summary,
        description="\n\n".join(operation.description for operation in operations),
        responses={
            200: {"description": "The result, for a client that waits.", "content": replies(operations)},
            202: {"description": "Accepted and durable.", "model": Accepted, "headers": ACCEPTED_HEADERS},
            **problems(400, 404, 409, 410, 413, 415, 422, 429, 504),
        },
        openapi_extra={
            "requestBody": request_body(path, operations),
            "parameters": path_parameters(path, operations[0]) + PARAMETERS,
        },
    )
