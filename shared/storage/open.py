"""Which store an address means."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from shared.storage.interface import Storage


def open_storage(url: str, endpoint_url: str | None = None, region: str = "us-east-1") -> Storage:
    """`file:///folder` or `s3://bucket/prefix`; ValueError for anything else."""
    parts = urlsplit(url)
    plain = not (parts.query or parts.fragment or "@" in parts.netloc)
    if plain and parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        from shared.storage.local import LocalStorage

        return LocalStorage(Path(unquote(parts.path)))
    if plain and parts.scheme == "s3" and parts.netloc:
        from shared.storage.s3 import S3Storage  # boto3 costs 40 MiB: only who uses it pays

        return S3Storage(parts.netloc, parts.path, endpoint_url, region)
    # The address itself is not repeated: someone may have put a password into it.
    raise ValueError(f"STORAGE_URL must be file:///folder or s3://bucket/prefix, not {parts.scheme or 'a bare path'}:…")
