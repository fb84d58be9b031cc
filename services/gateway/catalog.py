"""Which models can be asked for: what the workers reported, read again every two seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence

from shared.errors import ModelUnavailable, ValidationFailed
from shared.family import ModelRef
from shared.fleet.queries import FleetQueries, ModelView

FRESH = 2.0  # seconds


class Catalog:
    """The models and adapters of all families."""

    def __init__(self, fleet: FleetQueries) -> None:
        self._fleet = fleet
        self._models: list[ModelView] = []
        self._read_at = -FRESH

    async def models(self) -> list[ModelView]:
        """Everything that can be served."""
        if time.monotonic() - self._read_at > FRESH:
            self._models = await self._fleet.models()
            self._read_at = time.monotonic()
        return self._models

    async def require(self, family: str, refs: Sequence[ModelRef]) -> None:
        """Raise ModelUnavailable if the family has no model at all, ValidationFailed for a name that it has not."""
        if not refs:
            return
        known = [model for model in await self.models() if model.family == family]
        if not any(model.kind == "model" for model in known):
            message = f"Model not loaded: no worker of the {family} family has reported a usable model yet."
            raise ModelUnavailable(message, headers={"Retry-After": "5"}, details={"family": family})
        for ref in refs:
            names = [model.name for model in known if model.kind == ref.kind]
            if ref.name not in names:
                what = "LoRA" if ref.kind == "adapter" else "model"
                raise ValidationFailed(f"Unknown {what}.", field=ref.field, details={"available": names})
