"""What a worker does for `<family>.load`: nothing more than having the model loaded."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from workers.runtime.residency import Residence, Residency
from workers.runtime.runner import Runner


def warm(residency: Residency, residence: Residence, loaded: AbstractContextManager[Runner]) -> dict[str, Any]:
    """What was measured; entering `loaded` loads the model if it is not there yet."""
    already = residency.is_resident(residence)
    with loaded:
        known = residency.describe(residence)
    return {
        "model_name": residence.model,
        "family": residence.family,
        "device": residency.device,
        "already_loaded": already,
        "load_seconds": known["load_seconds"],
        "memory_bytes": known["memory_bytes"],
    }
