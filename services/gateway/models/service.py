"""What the live workers have loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.gateway.models.overview import Overview
from services.gateway.state import GatewayState
from shared.fleet.queries import WorkerView


def resident(workers: list[WorkerView]) -> Iterator[dict[str, Any]]:
    """Every model that a live worker holds in memory, as its runner describes it."""
    for worker in workers:
        for models in worker.details.get("resident", {}).values():
            yield from models


async def model_status(state: GatewayState) -> dict[str, Any]:
    """001's `loaded`, `lora_available`, `device`, `model_info`; then the catalog and the workers."""
    workers, catalog = await state.fleet.workers(), await state.catalog.models()
    seen = Overview(catalog, {}, workers, await state.breakers.open_now())
    loaded = [model for model in resident(workers) if "model_info" in model]
    newest = loaded[-1] if loaded else {}
    return {
        "loaded": bool(loaded),
        "lora_available": any(model.kind == "adapter" for model in catalog),
        "device": newest.get("device") or next((worker.device for worker in workers), None),
        "model_info": newest.get("model_info"),
        "models": [
            {
                **{"family": m.family, "kind": m.kind, "name": m.name, "title": m.title, "task": m.task},
                **{"state": seen.state(m), "memory_bytes": m.memory_bytes},
                **m.details,
            }
            for m in catalog
        ],
        "workers": [
            {"name": w.name, "families": w.families, "device": w.device, "state": w.state, **w.details} for w in workers
        ],
    }
