"""JSON bodies of the routes that are not operations: read within limits, checked against one schema, documented."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from services.gateway.content_type import content_type_of
from services.gateway.errors import validation_failed
from services.gateway.json_reader import read_body, read_json
from shared.errors import UnsupportedMediaType

Body = TypeVar("Body", bound=BaseModel)
JSON = "application/json"


def takes(schema: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI of a JSON body that the route reads itself."""
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema.model_json_schema()}}}}


async def read_typed(request: Request, limit: int, schema: type[Body]) -> Body:
    """The body (at most `limit` bytes); raises ValidationFailed, PayloadTooLarge or UnsupportedMediaType.

    No error repeats a value: it may be a password, and answers may be logged on their way.
    """
    if content_type_of(request, JSON) != JSON:
        raise UnsupportedMediaType(f"This address takes {JSON}.", headers={"Accept": JSON})
    try:
        return schema.model_validate(read_json(await read_body(request, limit)))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        hidden = [{**entry, "input": None} for entry in found]
        raise validation_failed(hidden, schema.model_json_schema().get("properties", {})) from None
