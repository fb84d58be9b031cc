"""Which keys are well formed: relative POSIX paths without surprises."""

from __future__ import annotations

import re

KEY = re.compile(r"[A-Za-z0-9_@=-][A-Za-z0-9._@=-]*(/[A-Za-z0-9_@=-][A-Za-z0-9._@=-]*)*")


def checked_key(key: str) -> str:
    """The key itself; ValueError unless every segment is plain (no "..", no leading dot, no backslash)."""
    if not KEY.fullmatch(key):
        raise ValueError(f"not a storage key: {key!r}")
    return key
