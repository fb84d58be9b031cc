"""What a worker does for `<family>.load`: nothing more than having the model loaded."""

from __future__ import annotations

from typing import Any

from workers.runtime.residency import Residence, Residency


def warm(residency: Residency, residence: Residence) -> dict[str, Any]:
    """Load the model if it is not; what was measured."""
    already = residency.is_resident(residence)
    with residency.using(residence, runs=0):
        known = residency.describe(residence)
    return {
        "model_name": residence.model,
        "family": residence.family,
        "device": residency.device,
        "already_loaded": already,
        "load_seconds": known["load_seconds"],
        "memory_bytes": known["memory_bytes"],
    }
