"""The models and adapters that workers found on their disks."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Text, text
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from shared.database import Base

Time = TIMESTAMP(timezone=True)


class CatalogModel(Base):
    """One of them; it stays listed while workers scale to zero. Sizes are in bytes, what is not known is NULL.

    Workers write all of it but `disabled`, which is the operator's word and outlives their reports. `memory_bytes` is
    what the weights need once loaded, `settings` what the model runs with, `details` what its family tells besides.
    """

    __tablename__ = "models"

    family: Mapped[str] = mapped_column(Text, primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    task: Mapped[str | None] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text, server_default=text("'folder'"))
    repository: Mapped[str | None] = mapped_column(Text)
    revision: Mapped[str | None] = mapped_column(Text)
    files: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    licence: Mapped[str | None] = mapped_column(Text)
    parameters: Mapped[int | None] = mapped_column(BigInteger)
    dtype: Mapped[str | None] = mapped_column(Text)
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    settings: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    disabled: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    reported_by: Mapped[str] = mapped_column(Text)
    seen_at: Mapped[datetime] = mapped_column(Time, server_default=text("now()"))
