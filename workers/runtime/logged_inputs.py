"""What logs may say of a job's input. Prompts are their authors' business: by default nothing is said."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from shared.redaction import redact_text

DIGITS, LETTERS = 16, 40  # of the hash; of each text


def described(value: Any, how: str) -> Any:
    """None for "none"; for "hash" one that tells equal inputs from others; for "start" each text's first LETTERS."""
    if how == "none":
        return None
    if how == "hash":
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:DIGITS]
    return _cut(value)


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        text = redact_text(value)  # before the cut: half a secret is not told from other text
        return text if len(text) <= LETTERS else text[:LETTERS] + "…"
    if isinstance(value, dict):
        return {name: _cut(entry) for name, entry in value.items()}
    return [_cut(entry) for entry in value] if isinstance(value, list) else value
