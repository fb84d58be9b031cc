"""Opaque, time-sortable ids (UUID version 7, RFC 9562)."""

from __future__ import annotations

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """A fresh id; later ids sort after earlier ones."""
    return uuid7()


def parse_id(text: str) -> UUID | None:
    """The id that `text` spells in its canonical form (36 characters), or None."""
    if len(text) != 36:
        return None
    try:
        return UUID(text)
    except ValueError:
        return None
