"""What is set aside for a while, for the pages that anybody may read: no host and no worker is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.gateway.breakers import described
from services.gateway.state import GatewayState
from shared.fleet.queries import WorkerView

NOTHING: dict[str, list[Any]] = {"paused_models": [], "quarantined_devices": [], "families_without_workers": []}


async def set_aside(state: GatewayState) -> dict[str, list[Any]]:
    """Paused models, devices in quarantine, and the families that have no other workers."""
    paused = await state.breakers.open_now()
    devices = await state.breakers.queries.quarantines()
    return {
        "paused_models": [
            {"family": family, "model": model, **described(breaker)} for (family, model), breaker in paused.items()
        ],
        "quarantined_devices": [
            {"device": one.device, "reason": one.reason, "until": one.until.isoformat()} for one in devices
        ],
        "families_without_workers": families_without_workers(await state.fleet.workers()),
    }


def families_without_workers(workers: Sequence[WorkerView]) -> list[str]:
    """The families whose live workers are all in quarantine."""
    aside = {family for worker in workers if worker.state == "quarantined" for family in worker.families}
    working = {family for worker in workers if worker.state != "quarantined" for family in worker.families}
    return sorted(aside - working)
