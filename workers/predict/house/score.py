"""`python -m workers.predict.house.score`: the example model's error on rows that it was not fitted to."""

from __future__ import annotations

import torch

from workers.predict.house.network import INPUTS, SPAN, load, truth


def held_out_error(count: int = 20_000, seed: int = 2026) -> dict[str, float]:
    """Root mean square error, the largest one, and for scale the standard deviation of the truth itself."""
    draw = torch.Generator().manual_seed(seed)
    rows = (2 * torch.rand(count, INPUTS, generator=draw, dtype=torch.float64) - 1) * SPAN
    with torch.no_grad():
        error = load()(rows)[:, 0] - truth(rows)
    return {
        "rms": round(float(error.square().mean().sqrt()), 4),
        "largest": round(float(error.abs().max()), 4),
        "spread": round(float(truth(rows).std()), 4),
    }


if __name__ == "__main__":
    print(held_out_error())
