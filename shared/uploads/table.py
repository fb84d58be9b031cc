"""Files that came, or still come, in parts. The migration is `migrations/versions/0004_uploads.py`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from shared.database import Base

Time = TIMESTAMP(timezone=True)
NOW = text("now()")
ZERO = text("0")
LIVE = text("deleted_at IS NULL")


class Upload(Base):
    """One file of an owner. It is complete once it has a hash; a deleted row waits for the end of those who read it."""

    __tablename__ = "uploads"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(Text)
    # The upload whose parts are its bytes: itself, or an earlier equal one of the same owner.
    content: Mapped[UUID]
    name: Mapped[str | None] = mapped_column(Text)
    metadata_: Mapped[str | None] = mapped_column("metadata", Text)

    # Bytes: of the whole file if that is known, those that its owner's limit counts, those that lie in storage.
    length: Mapped[int | None] = mapped_column(BigInteger)
    reserved: Mapped[int] = mapped_column(BigInteger)
    received: Mapped[int] = mapped_column(BigInteger, server_default=ZERO)
    parts: Mapped[int] = mapped_column(server_default=ZERO)

    sha256: Mapped[str | None] = mapped_column(Text)
    media_type: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Time, server_default=NOW)
    expires_at: Mapped[datetime] = mapped_column(Time)
    deleted_at: Mapped[datetime | None] = mapped_column(Time)

    __table_args__ = (
        CheckConstraint("received BETWEEN 0 AND reserved", name="received"),
        CheckConstraint("length IS NULL OR length = reserved", name="length"),
        CheckConstraint("sha256 IS NULL OR (received = length AND media_type IS NOT NULL)", name="complete"),
        Index("uploads_list", "owner", text("id DESC"), postgresql_where=LIVE),
        Index("uploads_equal", "owner", "sha256", postgresql_where=text("sha256 IS NOT NULL AND deleted_at IS NULL")),
        Index("uploads_content", "content"),
        Index("uploads_expiry", "expires_at", postgresql_where=LIVE),
        Index("uploads_purge", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
    )


class UploadPart(Base):
    """Consecutive bytes of an upload, an object of their own in the storage."""

    __tablename__ = "upload_parts"

    upload_id: Mapped[UUID] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    key: Mapped[str] = mapped_column(Text)
