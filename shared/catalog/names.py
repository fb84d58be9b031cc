"""What a model may be called."""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""It is a folder's name and part of addresses: no slash, no space, and no dot in front."""

RESERVED = frozenset(
    {
        *("available", "managed", "cache", "download", "manage", "status", "load", "unload", "info"),
        *("batch", "default", "models", "loras"),
    }
)
"""Words that stand where a name could, in addresses (`/models/status`) and folders (`loras`)."""


def name_problem(name: str) -> str | None:
    """Why no model may have this name; None if one may."""
    if not NAME.fullmatch(name):
        return "A model's name has 1 to 100 letters, digits, dots, dashes and underscores, a letter or digit first."
    if name.lower() in RESERVED:
        return f"The name {name} is reserved."
    return None
