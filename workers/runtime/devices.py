"""Which device this worker computes on, its memory, how that is given back to it, and how it fails."""

from __future__ import annotations

import ctypes
import gc
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import psutil

from shared.breakers.devices import Place
from workers.runtime.runner import DeviceFault, OutOfMemory


def choose_device(wanted: str) -> str:
    """ "auto" is the first CUDA device if there is one, else the CPU; other names are taken as they are."""
    if wanted != "auto":
        return wanted
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def this_place(wanted: str) -> Place:
    """This host and the device that its settings name, with what CUDA was told to show: without asking CUDA itself."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    return Place(socket.gethostname(), wanted if shown is None else f"{wanted} of {shown}")


def used_fraction(device: str) -> float:
    """Share of the device's memory in use, 0 to 1 (for the CPU: of the machine's)."""
    if device.startswith("cuda"):
        import torch

        free, total = torch.cuda.mem_get_info(device)
        return 1 - free / total
    return psutil.virtual_memory().percent / 100


def total_bytes(device: str) -> int:
    """The device's memory (for the CPU: the machine's)."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total)


def held_bytes(device: str) -> int:
    """What this process holds of it: tensors on a GPU; on the CPU all of its resident memory."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


def forget_peak(device: str) -> None:
    """What `peak_bytes` tells begins anew."""
    if device.startswith("cuda"):
        import torch

        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: str) -> int | None:
    """The most that this process's tensors took on a CUDA device since `forget_peak`; None elsewhere."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device)) if torch.cuda.is_initialized() else 0
    return None


def give_back(device: str) -> None:
    """Return what is no longer used: allocators keep it otherwise, for this process only."""
    gc.collect()  # pipelines refer to themselves
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
    elif (libc := _libc()) is not None:
        libc.malloc_trim(0)


@contextmanager
def device_errors() -> Iterator[None]:
    """torch's failures as the runtime's: out of memory can be tried again; a device-side fault ends the process."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise OutOfMemory("The device has too little memory for this request.") from error
    except torch.AcceleratorError as error:
        raise DeviceFault("The device failed.") from error


@lru_cache
def _libc() -> ctypes.CDLL | None:
    """The C library, if it is one that keeps freed memory until it is told (glibc)."""
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None


def describe_device(device: str) -> dict[str, Any]:
    """What the status pages tell of the device."""
    if device.startswith("cuda"):
        import torch

        properties = torch.cuda.get_device_properties(device)
        return {"device": device, "gpu": properties.name, "memory_mb": properties.total_memory // 2**20}
    return {"device": device}
