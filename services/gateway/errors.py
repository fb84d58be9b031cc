"""The one error body. Every dialect of client finds its keys in it (RFC 9457 and the five reference APIs)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match

from shared.errors import AtelierError, MethodNotAllowed, NotFound, Unavailable, ValidationFailed
from shared.ids import new_id

MEDIA_TYPE = "application/problem+json"
OUR_PHRASES = {460: "Checksum Mismatch"}  # of statuses that HTTP's registry lacks


class Problem(BaseModel):
    """Every error's body."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(
        description="A URI reference that names the kind of problem.", examples=["/docs#validation_error"]
    )
    title: str = Field(examples=["Bad Request"])
    status: int = Field(examples=[400])
    detail: str = Field(description="What went wrong, for people.")
    success: bool = Field(False, description="Always false.")
    error: str = Field(description="A stable code, for programs.", examples=["validation_error"])
    message: str = Field(description="The same as `detail`.")
    details: dict[str, Any] = Field(description="`field`, `provided`, `valid_range` or `errors[]`, limits, …")
    status_code: int
    request_id: str


def problem(error: AtelierError, request_id: str) -> Response:
    """The error as a response."""
    body = {
        "type": f"/docs#{error.error_code}",
        "title": OUR_PHRASES.get(error.status) or HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.message,
        "success": False,
        "error": error.error_code,
        "message": error.message,
        "details": error.details,
        "status_code": error.status,
        "request_id": request_id,
    }
    content = json.dumps(body, ensure_ascii=True, allow_nan=False).encode()
    return Response(content, error.status, headers=error.headers, media_type=MEDIA_TYPE)


def validation_failed(errors: Sequence[Mapping[str, Any]], known: Mapping[str, Mapping[str, Any]]) -> ValidationFailed:
    """pydantic's findings as one 400: the first in front, all of them in `details.errors`.

    `known` is the JSON schema of each top-level field, for `valid_range`.
    """
    listed = [{"loc": list(e["loc"]), "message": _readable(e), "type": e["type"]} for e in errors]
    first = errors[0]
    field = ".".join(str(part) for part in first["loc"]) or "body"
    details: dict[str, Any] = {"errors": listed}
    if isinstance(provided := first.get("input"), (bool, int, float, str)) and len(str(provided)) <= 100:
        details["provided"] = provided
    leaf = known.get(str(first["loc"][-1])) if first["loc"] else None
    if leaf and (span := _range(leaf)):
        details["valid_range"] = span
        message = f"Invalid {field}. Must be between {span[0]} and {span[1]}."
        if first["type"] in ("greater_than_equal", "less_than_equal"):
            return ValidationFailed(message, field=field, details=details)
    return ValidationFailed(f"Invalid {field}: {_readable(first)}", field=field, details=details)


def _readable(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "Unknown field."
    if error["type"] == "missing":
        return "This field is required."
    return str(error["msg"]).removeprefix("Value error, ")


def _range(schema: Mapping[str, Any]) -> list[float] | None:
    for option in (schema, *schema.get("anyOf", [])):
        if "minimum" in option and "maximum" in option:
            return [option["minimum"], option["maximum"]]
    return None


def request_id_of(request: Request) -> str:
    """The id that this request's log lines and error carry."""
    held: str | None = request.scope.get("request_id")
    return held or str(new_id())


def install_error_handlers(app: FastAPI) -> None:
    """Everything that is raised on purpose becomes the one body; `UnexpectedErrors` does it for bugs of ours."""

    @app.exception_handler(AtelierError)
    async def _known(request: Request, error: AtelierError) -> Response:
        return problem(error, request_id_of(request))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        return problem(_of_status(request, error), request_id_of(request))

    @app.exception_handler(ClientDisconnect)
    async def _gone(request: Request, error: ClientDisconnect) -> Response:  # nobody reads it, and it is no bug of ours
        return problem(ValidationFailed("The request ended before its body did."), request_id_of(request))


def _of_status(request: Request, error: HTTPException) -> AtelierError:
    headers = dict(error.headers or {})
    if error.status_code == 404:
        return NotFound("There is nothing at this address.", headers=headers)
    if error.status_code == 405:
        methods = {"Allow": ", ".join(sorted(_methods(request)))}
        return MethodNotAllowed("This address does not take that method.", headers=methods)
    if error.status_code == 400:
        return ValidationFailed(str(error.detail))
    return Unavailable(str(error.detail), headers=headers)


def _methods(request: Request) -> set[str]:
    """All that this address takes. Starlette names those of the first route that fits; a method often has its own."""
    routes = iter_route_contexts(request.app.routes)
    fit = (route for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    return {method for route in fit for method in route.methods or ()}
