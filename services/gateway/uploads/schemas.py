"""What the API tells of uploads."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.jobs.file_texts import UPLOAD
from shared.uploads.queries import UploadView


class UploadStatus(BaseModel):
    """One upload of yours."""

    model_config = ConfigDict(title="UploadStatus")

    id: str
    reference: str = Field(description="What a job's file field takes.", examples=["upload:0199a7f0-…"])
    name: str | None = Field(description="The file's name, as it was sent.")
    state: Literal["receiving", "complete"]
    size: int | None = Field(description="Bytes of the whole file; null until it is known.")
    received: int = Field(description="Bytes that are there.")
    sha256: str | None = Field(description="In hex; null until the upload is complete.")
    media_type: str | None = Field(description="By how the bytes begin, whatever was said; null until it is complete.")
    created_at: datetime
    expires_at: datetime = Field(description="When it goes, unless more bytes come or a job uses it before.")


class UploadPage(BaseModel):
    """A page of uploads, newest first."""

    model_config = ConfigDict(title="UploadPage")

    uploads: list[UploadStatus]
    next: str | None = Field(description="The `before` of the next page; null on the last one.")


def upload_body(upload: UploadView) -> dict[str, Any]:
    """An upload as JSON."""
    return {
        "id": str(upload.id),
        "reference": f"{UPLOAD}{upload.id}",
        "name": upload.name,
        "state": "complete" if upload.complete else "receiving",
        "size": upload.length,
        "received": upload.received,
        "sha256": upload.sha256,
        "media_type": upload.media_type,
        "created_at": upload.created_at.isoformat(),
        "expires_at": upload.expires_at.isoformat(),
    }
