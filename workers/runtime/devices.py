"""Which device this worker computes on, and how much of its memory is free."""

from __future__ import annotations

from typing import Any

import psutil


def choose_device(wanted: str) -> str:
    """ "auto" is the first CUDA device if there is one, else the CPU; other names are taken as they are."""
    if wanted != "auto":
        return wanted
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def used_fraction(device: str) -> float:
    """Share of the device's memory in use, 0 to 1 (for the CPU: of the machine's)."""
    if device.startswith("cuda"):
        import torch

        free, total = torch.cuda.mem_get_info(device)
        return 1 - free / total
    return psutil.virtual_memory().percent / 100


def describe_device(device: str) -> dict[str, Any]:
    """What the status pages tell of the device."""
    if device.startswith("cuda"):
        import torch

        properties = torch.cuda.get_device_properties(device)
        return {"device": device, "gpu": properties.name, "memory_mb": properties.total_memory // 2**20}
    return {"device": device}
