"""Asks every worker that has a model in memory to let go of it, and tells what they say that it brought."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

from services.gateway.state import GatewayState
from shared.catalog.queries import ModelView
from shared.fleet.queries import WorkerView
from shared.ids import new_id
from shared.jobs.notices import UNLOAD_CHANNEL

PATIENCE = 5.0  # seconds for the workers' answers
LOOK = 0.1  # between two looks at what they report
AGAIN = 1.0  # until a notice is repeated: one may fall into the moment in which a worker connects anew


async def unload(state: GatewayState, model: ModelView, patience: float = PATIENCE) -> dict[str, Any]:
    """The body of the answer; `success` is false while a worker still has the model, because a job runs with it."""
    request, began, asked_at = str(new_id()), time.monotonic(), -AGAIN
    workers = await state.fleet.workers()
    told = {worker.name: worker.device for worker in workers if _holds(worker, model)}
    while True:
        if time.monotonic() - asked_at >= AGAIN:
            await _notify(state, request, model)
            asked_at = time.monotonic()
        if not told or time.monotonic() - began > patience:
            break
        await asyncio.sleep(LOOK)
        workers = await state.fleet.workers()
        if not any(_holds(worker, model) for worker in workers if worker.name in told):
            break
    return _answer(model, told, workers, request)


async def _notify(state: GatewayState, request: str, model: ModelView) -> None:
    notice = json.dumps({"request": request, "family": model.family, "model": model.name})
    await state.read_pool.execute("SELECT pg_notify($1, $2)", UNLOAD_CHANNEL, notice)


def _holds(worker: WorkerView, model: ModelView) -> bool:
    resident = worker.details.get("resident", {}).get(model.family, [])
    return any(entry["model"] == model.name for entry in resident)


def _answer(model: ModelView, told: dict[str, str], workers: list[WorkerView], request: str) -> dict[str, Any]:
    holding = {worker.name for worker in workers if _holds(worker, model)}
    freed = dict(_freed(workers, request))
    answers = [
        {"worker": name, "device": device, "unloaded": name not in holding, "freed_bytes": freed.get(name)}
        for name, device in told.items()
    ]
    busy = sum(not answer["unloaded"] for answer in answers)
    message = f"{model.name} was loaded nowhere."
    if busy:
        message = f"{model.name} leaves {busy} of {len(answers)} workers when their jobs with it have ended."
    elif answers:
        message = f"{model.name} is unloaded."
    return {
        "success": not busy,
        "message": message,
        "model_name": model.name,
        "family": model.family,
        "workers": answers,
        "freed_bytes": sum(freed.values()),
    }


def _freed(workers: list[WorkerView], request: str) -> Iterator[tuple[str, int]]:
    for worker in workers:
        for entry in worker.details.get("unloaded", []):
            if entry["request"] == request:
                yield worker.name, entry["freed_bytes"]
