"""What workers say of themselves: who is alive, on which device, with which models on disk and in memory."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from shared.database import Base

Time = TIMESTAMP(timezone=True)


class Worker(Base):
    """One worker process; `seen_at` moves with every report."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    families: Mapped[list[str]] = mapped_column(ARRAY(Text))
    device: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    started_at: Mapped[datetime] = mapped_column(Time, server_default=text("now()"))
    seen_at: Mapped[datetime] = mapped_column(Time, server_default=text("now()"))


class CatalogModel(Base):
    """A model or adapter that some worker found on its disk; it stays listed while workers scale to zero."""

    __tablename__ = "models"

    family: Mapped[str] = mapped_column(Text, primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    reported_by: Mapped[str] = mapped_column(Text)
    seen_at: Mapped[datetime] = mapped_column(Time, server_default=text("now()"))
