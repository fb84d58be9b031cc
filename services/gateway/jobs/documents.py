"""What the OpenAPI says of operations: their bodies, as JSON and as forms, and their replies."""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from typing import Any

from pydantic.json_schema import models_json_schema

from services.gateway.jobs.bodies import JSON
from services.gateway.jobs.form_fields import text_fields
from services.gateway.jobs.forms import FORM
from shared.family import FILE_DESCRIPTION, Family, FileField, Operation, path_fields

REF = "#/components/schemas/{model}"


def path_parameters(path: str, operation: Operation) -> list[dict[str, Any]]:
    """The fields of the input that the path holds."""
    properties = operation.input.model_json_schema()["properties"]
    return [{"name": name, "in": "path", "required": True, "schema": properties[name]} for name in path_fields(path)]


def request_body(path: str, operations: Sequence[Operation]) -> dict[str, Any]:
    """The bodies that a path takes."""
    bodies = [_body_name(path, operation) for operation in operations]
    examples = {name: {"value": value} for operation in operations for name, value in operation.examples.items()}
    content = {JSON: {"schema": _one_of(bodies), "examples": examples}}
    for operation in operations:
        if operation.files:
            content[FORM] = _form(operation)
    return {"required": True, "content": content}


def replies(operations: Sequence[Operation]) -> dict[str, Any]:
    """The synchronous answers of a path."""
    return {JSON: {"schema": _one_of([operation.reply_schema.__name__ for operation in operations])}}


def operation_schemas(families: dict[str, Family]) -> dict[str, Any]:
    """The JSON schemas of all bodies and replies, for the OpenAPI's components."""
    operations = [operation for family in families.values() for operation in family.operations]
    inputs = [(operation.body_schema or operation.input, "validation") for operation in operations]
    made = [(operation.reply_schema, "serialization") for operation in operations]
    _, definitions = models_json_schema([*inputs, *made], ref_template=REF)  # type: ignore[list-item]
    schemas: dict[str, Any] = definitions["$defs"]
    for operation in operations:
        for path in operation.paths:
            if named := path_fields(path):
                name = _body_name(path, operation)
                schemas[name] = _without(schemas[operation.input.__name__], named, name)
        if operation.files:
            schema = schemas[operation.input.__name__]
            name = _config_name(operation)
            schemas[name] = _without(schema, operation.files, name)
            for field, rule in operation.files.items():
                schema["properties"][field] |= {"description": f"{FILE_DESCRIPTION} {_rule(rule)}"}
    return schemas


def _form(operation: Operation) -> dict[str, Any]:
    files = {
        field: {
            "type": "string",
            "format": "binary",
            "description": f"A file, or a text part with what JSON takes here. {_rule(rule)}",
        }
        for field, rule in operation.files.items()
    }
    config = {
        "type": "string",
        "contentMediaType": JSON,
        "contentSchema": {"$ref": REF.format(model=_config_name(operation))},
        "description": "The other fields as a JSON object.",
    }
    known = operation.input.model_json_schema(ref_template=REF)["properties"]
    texts = {field: known[field] for field in text_fields(operation)}
    required = [field for field in files if operation.input.model_fields[field].is_required()]
    schema = {
        "type": "object",
        "properties": files | texts | {operation.config: config},
        "required": required,
        "additionalProperties": False,
    }
    return {"schema": schema, "examples": {name: _as_form(operation, v) for name, v in operation.examples.items()}}


def _as_form(operation: Operation, example: dict[str, Any]) -> dict[str, Any]:
    files = {field: example[field] for field in operation.files if field in example}
    rest = {field: value for field, value in example.items() if field not in files}
    return {"value": files | (rest if operation.form_fields else {operation.config: json.dumps(rest)})}


def _rule(rule: FileField) -> str:
    return f"{', '.join(rule.media_types)}; at most {rule.max_bytes} bytes."


def _config_name(operation: Operation) -> str:
    return f"{operation.input.__name__}Config"


def _body_name(path: str, operation: Operation) -> str:
    """The name of the body's schema: the input's, without what the path says already."""
    return (
        f"{operation.input.__name__}Rest" if path_fields(path) else (operation.body_schema or operation.input).__name__
    )


def _without(schema: dict[str, Any], fields: Container[str], title: str) -> dict[str, Any]:
    """The same schema without these fields."""
    properties = {field: value for field, value in schema["properties"].items() if field not in fields}
    required = [field for field in schema.get("required", []) if field not in fields]
    return {**schema, "title": title, "properties": properties, "required": required}


def _one_of(schemas: Sequence[str]) -> dict[str, Any]:
    refs = [{"$ref": REF.format(model=schema)} for schema in schemas]
    return refs[0] if len(refs) == 1 else {"oneOf": refs}
