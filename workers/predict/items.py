"""What `inputs` may hold, and how it splits into one input or several. No torch: the gateway reads it as well."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any, Literal

MAX_ITEMS = 64  # inputs of one request
MAX_TEXT = 100_000  # characters of one text
EXAMPLE_NUMBERS, EXAMPLE_SPAN = 10, 5.0
Kind = Literal["numbers", "text", "named", "picture"]

SCHEMA = {
    "description": (
        "A flat list of numbers or a text is one input; a list of lists or of texts is a batch. An object names the "
        "inputs of a model that has several. Pictures are base64 or data URIs (large ones go into `image`)."
    ),
    "anyOf": [
        {"type": "array", "items": {"type": "number"}, "minItems": 1},
        {"type": "string", "minLength": 1, "maxLength": MAX_TEXT, "pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"},
        {
            "type": "array",
            "items": {"type": "array", "items": {"type": "number"}, "minItems": 1},
            "minItems": 1,
            "maxItems": MAX_ITEMS,
        },
        {
            "type": "array",
            "items": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_TEXT,
                "pattern": r"^[^\x00]*[^\s\x00][^\x00]*$",
            },
            "minItems": 1,
            "maxItems": MAX_ITEMS,
        },
        {"type": "object", "minProperties": 1},
        {"type": "array", "items": {"type": "object", "minProperties": 1}, "minItems": 1, "maxItems": MAX_ITEMS},
    ],
}


@dataclass(frozen=True, slots=True)
class Items:
    """The inputs of one request, all of one kind; `batch` tells whether the client sent a list of them."""

    kind: Kind
    values: list[Any]
    batch: bool

    def place(self, number: int) -> str:
        """Where the client finds this input: `inputs`, or `inputs.2`."""
        return f"inputs.{number}" if self.batch else "inputs"


def split(inputs: Any) -> Items:
    """One input or a batch of equal kinds; raises ValueError that says what is wrong with `inputs`."""
    if isinstance(inputs, str | dict):
        return Items(_kind(inputs), [inputs], batch=False)
    if not isinstance(inputs, list) or not inputs:
        raise ValueError("numbers, a text, an object, or a list of one kind of them is expected, and at least one")
    if all(_is_number(value) for value in inputs):
        return Items(_kind(inputs), [inputs], batch=False)
    if len(inputs) > MAX_ITEMS:
        raise ValueError(f"at most {MAX_ITEMS} inputs go into one request")
    kinds = {_kind(value) for value in inputs}
    if len(kinds) != 1:
        raise ValueError("all inputs of a batch must be of one kind: lists of numbers, texts, or objects")
    return Items(kinds.pop(), inputs, batch=True)


def _kind(value: Any) -> Kind:
    if isinstance(value, str):
        if not value.strip() or len(value) > MAX_TEXT:
            raise ValueError(f"a text has 1 to {MAX_TEXT} characters, and not only spaces")
        return "text"
    if isinstance(value, dict) and value:
        return "named"
    if isinstance(value, list) and value and all(_is_number(number) for number in value):
        return "numbers"
    raise ValueError("each input must be a list of finite numbers, a text, or an object with names")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def example_row(value: Any) -> list[float]:
    """The ten numbers that the example model sees: what is missing counts as 0, a text is ten numbers of its hash.

    Raises ValueError for anything but 1 to 10 numbers or a text.
    """
    if isinstance(value, str):
        digest = hashlib.sha256(value.encode()).digest()
        whole = (int.from_bytes(digest[2 * n : 2 * n + 2], "big") for n in range(EXAMPLE_NUMBERS))
        return [(number / 65_535 * 2 - 1) * EXAMPLE_SPAN for number in whole]
    if not isinstance(value, list) or len(value) > EXAMPLE_NUMBERS:
        raise ValueError(f"the example model takes 1 to {EXAMPLE_NUMBERS} numbers, or a text")
    return [float(number) for number in value] + [0.0] * (EXAMPLE_NUMBERS - len(value))
