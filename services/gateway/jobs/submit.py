"""The POST routes, drawn from the families' specs: a new operation needs no code here.

This module builds routes in a loop and so must not postpone the evaluation of annotations.
"""

from collections import defaultdict
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import Response

from services.gateway.auth.access import SUBMIT, allowed
from services.gateway.dependencies import Base, State, Submitter
from services.gateway.jobs.forms import FORM
from services.gateway.jobs.schemas import Accepted
from services.gateway.jobs.service import Choice, submit
from services.gateway.responses import problems
from shared.family import Family, Multipart, Operation

REF = "#/components/schemas/{model}"
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
        "schema": {"type": "integer", "minimum": 0, "maximum": 9},
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
    for path, choices in by_path.items():
        batch = f"{path}/batch"
        _add_route(router, path, choices, batch if batch in by_path else None)
    return router


def _add_route(router: APIRouter, path: str, choices: list[Choice], batch: str | None) -> None:
    async def post(request: Request, state: State, submitter: Submitter, base: Base) -> Response:
        return await submit(request, state, submitter, base, choices, batch)

    operations = [operation for _, operation in choices]
    router.add_api_route(
        path,
        post,
        methods=["POST"],
        status_code=202,
        operation_id="post" + path.replace("/", "_"),
        tags=[choices[0][0].name],
        dependencies=allowed(SUBMIT),
        summary=operations[0].summary,
        description="\n\n".join(operation.description for operation in operations),
        responses={
            200: {"description": "The result, for a client that waits.", "content": _replies(operations)},
            202: {"description": "Accepted and durable.", "model": Accepted, "headers": ACCEPTED_HEADERS},
            **problems(400, 404, 409, 410, 413, 415, 422, 429),
        },
        openapi_extra={"requestBody": _request_body(operations), "parameters": PARAMETERS},
    )


def _request_body(operations: list[Operation]) -> dict[str, Any]:
    plain = [operation for operation in operations if not operation.multipart]
    content: dict[str, Any] = {}
    if plain:
        bodies = [operation.body_schema or operation.input for operation in plain]
        content["application/json"] = {"schema": _one_of(bodies), "examples": _examples(plain)}
    for operation in operations:
        if operation.multipart:
            content[FORM] = _form(operation, operation.multipart)
    return {"required": True, "content": content}


def _examples(operations: list[Operation]) -> dict[str, Any]:
    return {name: {"value": value} for operation in operations for name, value in operation.examples.items()}


def _form(operation: Operation, multipart: Multipart) -> dict[str, Any]:
    files = {
        name: {"type": "string", "format": "binary", "description": f"{', '.join(types)}; {multipart.max_bytes} bytes"}
        for name, types in multipart.files.items()
    }
    config = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": REF.format(model=operation.input.__name__)},
        "description": "The other fields as a JSON object.",
    }
    properties = files | {multipart.config: config}
    schema = {"type": "object", "properties": properties, "required": [*files], "additionalProperties": False}
    return {"schema": schema, "examples": _examples([operation])}


def _replies(operations: list[Operation]) -> dict[str, Any]:
    return {"application/json": {"schema": _one_of([operation.reply_schema for operation in operations])}}


def _one_of(schemas: list[type[BaseModel]]) -> dict[str, Any]:
    refs = [{"$ref": REF.format(model=schema.__name__)} for schema in schemas]
    return refs[0] if len(refs) == 1 else {"oneOf": refs}


def operation_schemas(families: dict[str, Family]) -> dict[str, Any]:
    """The JSON schemas of all bodies and replies, for the OpenAPI's components."""
    operations = [operation for family in families.values() for operation in family.operations]
    inputs = [(operation.body_schema or operation.input, "validation") for operation in operations]
    replies = [(operation.reply_schema, "serialization") for operation in operations]
    _, definitions = models_json_schema([*inputs, *replies], ref_template=REF)  # type: ignore[list-item]
    schemas: dict[str, Any] = definitions["$defs"]
    for operation in operations:
        if operation.multipart:  # the schema is that of the JSON field: the files are parts beside it
            schema, files = schemas[operation.input.__name__], operation.multipart.files
            schema["properties"] = {k: v for k, v in schema["properties"].items() if k not in files}
            schema["required"] = [k for k in schema["required"] if k not in files]
    return schemas
