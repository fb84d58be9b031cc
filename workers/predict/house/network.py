"""The house model's network, 10-64-32-1, and the function that it was fitted to."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

INPUTS, SPAN = 10, 5.0  # numbers a row; it was fitted to rows between -SPAN and SPAN
WEIGHTS = Path(__file__).parent / "weights" / "example"


def network() -> nn.Sequential:
    """[N, 10] → [N, 1]."""
    return nn.Sequential(nn.Linear(INPUTS, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))


def load(folder: Path = WEIGHTS) -> nn.Sequential:
    """The fitted network in float64, in which machines do not differ in any digit that is shown."""
    net = network()
    net.load_state_dict(load_file(folder / "model.safetensors"))
    return net.double().eval()


def truth(rows: Tensor) -> Tensor:
    """[N, 10] → [N]: the logistic function of the mean, plus a gentle wave over each number. Between -0.3 and 1.3."""
    wave = torch.sin(rows * torch.arange(1, INPUTS + 1, dtype=rows.dtype) / INPUTS).mean(1)
    return torch.sigmoid(rows.mean(1)) + 0.3 * wave
