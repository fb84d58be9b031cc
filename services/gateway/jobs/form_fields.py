"""Fields of an input that a form gives as text parts (`-F language=en -F beam_size=5`), read as the field's type."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from starlette.datastructures import FormData, UploadFile

from services.gateway.json_reader import read_json
from shared.errors import ValidationFailed
from shared.family import Operation


def text_fields(operation: Operation) -> list[str]:
    """The fields that may be text parts of their own."""
    if not operation.form_fields:
        return []
    return [name for name in operation.input.model_fields if name not in operation.files]


def read_text_fields(data: FormData, operation: Operation, body: dict[str, Any]) -> None:
    """Add the form's text parts to the body; raises ValidationFailed for a file in a text's place, or one said twice.

    A text that is none of its field's type stays as it is: the input's schema says what is wrong with it.
    """
    for name in text_fields(operation):
        text = data.get(name)
        if text is None:
            continue
        if isinstance(text, UploadFile):
            raise ValidationFailed(f"Invalid {name}: Text is expected, not a file.", field=name)
        if name in body:
            raise ValidationFailed(f"Invalid {name}: it is a part of the form and in {operation.config}.", field=name)
        body[name] = _read(operation.input, name, text)


def _read(schema: type[BaseModel], name: str, text: str) -> Any:
    text = read_json(json.dumps({name: text}).encode())[name]  # what a text may hold is the same everywhere
    try:
        return _adapter(schema, name).validate_strings(text)
    except ValidationError:
        pass
    try:
        return read_json(text.encode())  # a list, an object, a number out of range
    except ValidationFailed:
        return text


@lru_cache
def _adapter(schema: type[BaseModel], name: str) -> TypeAdapter[Any]:
    kind: Any = schema.model_fields[name].annotation
    return TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False))
