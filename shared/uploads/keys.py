"""Where an upload's parts lie in storage."""

from __future__ import annotations

import secrets
from uuid import UUID


def upload_prefix(owner: str, upload_id: UUID) -> str:
    """Everything that came of this upload, counted or not."""
    return f"uploads/{owner}/{upload_id}/"


def new_part_key(owner: str, upload_id: UUID, start: int) -> str:
    """A fresh key: two writers of the same bytes never share one."""
    return f"{upload_prefix(owner, upload_id)}{start}-{secrets.token_hex(8)}"
