"""What a file is by how it begins: its name and its header are only claims."""

from __future__ import annotations

from collections.abc import Collection

HEAD = 16  # bytes that tell
SIGNATURES = {
    "image/png": lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"),
    "image/jpeg": lambda head: head.startswith(b"\xff\xd8\xff"),
    "image/webp": lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP",
}


def media_type_of(head: bytes, allowed: Collection[str]) -> str | None:
    """The one of the allowed media types whose files begin so, or None."""
    return next((name for name in allowed if SIGNATURES[name](head)), None)
