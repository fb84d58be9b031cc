"""What there is to say of models at this moment: the catalog, what workers hold in memory, what is on its way here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from services.gateway.breakers import PausedModels, described
from services.gateway.state import GatewayState
from shared.breakers.queries import OpenBreaker
from shared.catalog.queries import FetchView, ModelView
from shared.errors import AtelierError, Conflict
from shared.fleet.queries import WorkerView
from shared.jobs.states import LIVE

FAILED = {"failed", "expired"}
USE = ("memory_bytes", "load_seconds", "loads", "runs", "last_used_at")  # what workers measure of a resident model


@dataclass(frozen=True)
class Overview:
    """Read once a request; `models` are in the order of family, kind and name."""

    models: Sequence[ModelView]
    fetches: Mapping[str, FetchView]
    workers: Sequence[WorkerView]
    paused: PausedModels

    def of_kind(self, kind: str) -> dict[str, ModelView]:
        """Models or adapters by what an answer calls them: the name; the family as well where two share one."""
        found = [model for model in self.models if model.kind == kind]
        names = [model.name for model in found]
        return {
            model.name if names.count(model.name) == 1 else f"{model.family}/{model.name}": model for model in found
        }

    @cached_property
    def _holders(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        found: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for worker in self.workers:
            for family, resident in worker.details.get("resident", {}).items():
                for model in resident:
                    held = {"worker": worker.name, "device": worker.device, **{key: model.get(key) for key in USE}}
                    found.setdefault((family, model["model"]), []).append(held)
        return found

    def holders(self, model: ModelView) -> list[dict[str, Any]]:
        """The live workers that have it in memory, with what they measured."""
        return self._holders.get((model.family, model.name), []) if model.kind == "model" else []

    def breaker(self, model: ModelView) -> OpenBreaker | None:
        """Why the model is paused, if it is."""
        return self.paused.get((model.family, model.name)) if model.kind == "model" else None

    def state(self, model: ModelView) -> str:
        """An operator's word goes before what crashes say."""
        return "disabled" if model.disabled else "paused" if self.breaker(model) else "ready"

    def missing(self) -> Iterator[dict[str, Any]]:
        """What is being fetched, and what could not be: models that are not here."""
        here = {model.name for model in self.models}
        for name, fetch in sorted(self.fetches.items()):
            if name not in here and (state := fetch_state(fetch)):
                yield {
                    "name": name,
                    "state": state,
                    "progress": (fetch.progress or {}).get("progress", 0.0) if state == "downloading" else None,
                    "error": fetch.error_code if state == "failed" else None,
                }

    def describe(self, model: ModelView) -> dict[str, Any]:
        """Everything about a model that is here."""
        return {
            **{name: getattr(model, name) for name in ("name", "family", "kind", "title", "task")},
            "state": self.state(model),
            "breaker": described(breaker) if (breaker := self.breaker(model)) else None,
            **{name: getattr(model, name) for name in ("source", "repository", "revision", "licence", "files")},
            **{name: getattr(model, name) for name in ("size_bytes", "parameters", "dtype", "memory_bytes")},
            "settings": dict(model.settings),
            "details": dict(model.details),
            "seen_at": model.seen_at,
            "loaded": self.holders(model),
        }


def fetch_state(fetch: FetchView | None) -> str | None:
    """ "downloading" or "failed" for the last job that was to bring a model; None if it has nothing more to say."""
    if fetch is None:
        return None
    return "downloading" if fetch.state in LIVE else "failed" if fetch.state in FAILED else None


async def overview(state: GatewayState) -> Overview:
    """As it is now."""
    models = await state.catalog.models_now()
    fetches, workers = await state.catalog.queries.fetches(), await state.fleet.workers()
    return Overview(models, fetches, workers, await state.breakers.open_now())


def pick(
    models: Sequence[ModelView], name: str, family: str | None, kind: str | None, missing: AtelierError
) -> ModelView:
    """The one that is meant, a model before an adapter; raises `missing`, or Conflict if several families have one."""
    found = [model for model in models if model.name == name and model.family == (family or model.family)]
    found = [model for model in found if model.kind == (kind or "model")] or ([] if kind else found)
    if not found:
        raise missing
    if len(found) > 1:
        families = [model.family for model in found]
        raise Conflict(f"Several families have a model {name}; say which with `family`.", details={"family": families})
    return found[0]
