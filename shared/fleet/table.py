"""What workers say of themselves: who is alive, on which device, with which models in memory."""

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
