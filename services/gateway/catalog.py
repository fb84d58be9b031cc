"""Which models can be asked for: what the workers reported, read again every two seconds and before a refusal."""

from __future__ import annotations

import time
from collections.abc import Sequence

from shared.errors import ModelUnavailable
from shared.family import ModelRef, Operation
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

    async def require(self, family: str, operation: Operation, refs: Sequence[ModelRef]) -> None:
        """Raise ModelUnavailable if the family has no model at all, the operation's own error for one it has not."""
        known = await self.models()
        if all(ref.name in self._names(family, ref.kind, known) for ref in refs):
            return
        self._read_at = -FRESH  # it may have come since: nothing is refused by an old list
        known = await self.models()
        if not self._names(family, "model", known):
            message = f"Model not loaded: no worker of the {family} family has reported a usable model yet."
            raise ModelUnavailable(message, headers={"Retry-After": "5"}, details={"family": family})
        for ref in refs:
            names = self._names(family, ref.kind, known)
            if ref.name not in names:
                raise operation.missing_model(ref, sorted(names))

    @staticmethod
    def _names(family: str, kind: str, known: Sequence[ModelView]) -> set[str]:
        return {model.name for model in known if (model.family, model.kind) == (family, kind)}
