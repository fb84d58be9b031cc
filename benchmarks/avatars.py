"""Pictures a second of the house avatar model against the batch size: `BatchProcessor`, beside one call a picture."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

BATCHES = (1, 2, 4, 8)
PICTURES, ROUNDS = 8, 3


def bench_avatars(_: float) -> dict[str, Any]:
    """Medians of ROUNDS rounds of PICTURES pictures at the native resolution, all sizes in turn."""
    import torch

    from workers.avatar.aetherist import AetheristGenerator, BatchProcessor, CameraConfig, sample_latent_codes
    from workers.avatar.catalog import HOUSE

    generator = AetheristGenerator.from_pretrained(HOUSE).eval()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator.to(device)
    latents, camera = sample_latent_codes(PICTURES), CameraConfig.create_front_view()
    ways: dict[str, Callable[[], Any]] = {
        f"batch {size}": lambda size=size: BatchProcessor(generator, size).process_latent_batch(latents, camera)  # type: ignore[misc]
        for size in BATCHES
    }
    with torch.no_grad():
        ways["a call each"] = lambda: [generator(latent[None].to(device), camera.to(device)) for latent in latents]
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _n in range(ROUNDS):
            for name, work in ways.items():
                began = time.perf_counter()
                work()
                taken[name].append(time.perf_counter() - began)
    found = {name: round(PICTURES / median(seconds), 2) for name, seconds in taken.items()}
    side, threads = generator.config.resolution, torch.get_num_threads()
    print(f"{side} × {side} pictures a second on {device}, {threads} threads:", found, flush=True)
    return found
