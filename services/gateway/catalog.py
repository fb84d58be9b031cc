"""Which models can be asked for: what the workers reported, read again every two seconds and before a refusal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from shared.catalog.queries import CatalogQueries, ModelView
from shared.errors import ModelUnavailable
from shared.family import ModelRef, Operation

FRESH = 2.0  # seconds


class Catalog:
    """The models and adapters of all families."""

    def __init__(self, queries: CatalogQueries) -> None:
        self.queries = queries
        self._models: list[ModelView] = []
        self._read_at = -FRESH

    async def models(self) -> list[ModelView]:
        """Everything that workers reported, disabled models among them."""
        if time.monotonic() - self._read_at > FRESH:
            self._models = await self.queries.models()
            self._read_at = time.monotonic()
        return self._models

    async def models_now(self) -> list[ModelView]:
        """The same, read again: something may have changed."""
        self._read_at = -FRESH
        return await self.models()

    async def require(self, family: str, operation: Operation, refs: Sequence[ModelRef]) -> None:
        """Raise ModelUnavailable if the family has no model at all, or a disabled one is asked for; the operation's
        own error for a name that it has not.
        """
        usable = _names(family, [model for model in await self.models() if not model.disabled])
        if all((ref.kind, ref.name) in usable for ref in refs):
            return
        known = await self.models_now()  # nothing is refused by an old list
        names = _names(family, known)
        if not any(kind == "model" for kind, _ in names):
            message = f"Model not loaded: no worker of the {family} family has reported a usable model yet."
            raise ModelUnavailable(message, headers={"Retry-After": "5"}, details={"family": family})
        for ref in refs:
            if (ref.kind, ref.name) not in names:
                raise operation.missing_model(ref, sorted(name for kind, name in names if kind == ref.kind))
        disabled = _names(family, [model for model in known if model.disabled])
        for ref in refs:
            if (ref.kind, ref.name) in disabled:
                raise model_disabled(ref.name)

    async def known(self, family: str) -> dict[str, dict[str, Any]]:
        """What the family's models say of themselves by name, and the `task` of each."""
        models = [model for model in await self.models() if (model.family, model.kind) == (family, "model")]
        return {model.name: {**model.details, "task": model.task} for model in models}


def model_disabled(name: str) -> ModelUnavailable:
    """An operator does not want this model to be used."""
    return ModelUnavailable(f"The model {name} is disabled.", details={"reason": "disabled", "model": name})


def _names(family: str, models: Sequence[ModelView]) -> set[tuple[str, str]]:
    return {(model.kind, model.name) for model in models if model.family == family}
