"""Step 6: the picture of features → the picture."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workers.avatar.aetherist.networks.decoder import FEATURES
from workers.avatar.aetherist.networks.layers import EqualConv, leaky

NoiseMode = Literal["const", "random", "none"]
WIDTHS = (64, 32)  # of the first stage, and of all later ones


class Stage(nn.Module):
    """Doubles the side, and adds what it found to the picture. Its noise is a fixed field, fresh, or none."""

    noise: Tensor

    def __init__(self, inputs: int, width: int, side: int) -> None:
        super().__init__()
        self.first, self.second = EqualConv(inputs, width, 3), EqualConv(width, width, 3)
        self.to_rgb = EqualConv(width, 3, 1)
        self.noise_strength = nn.Parameter(torch.tensor(0.1))
        self.register_buffer("noise", torch.randn(side, side, generator=torch.Generator().manual_seed(side)), False)

    def forward(self, x: Tensor, rgb: Tensor, noise_mode: NoiseMode) -> tuple[Tensor, Tensor]:
        x = leaky(self.first(F.interpolate(x, scale_factor=2.0, mode="bilinear")))
        x = self.second(x)
        if noise_mode != "none":
            x = x + self.noise_strength * self._noise(x, noise_mode)
        x = leaky(x)
        return x, F.interpolate(rgb, scale_factor=2.0, mode="bilinear") + self.to_rgb(x)

    def _noise(self, x: Tensor, noise_mode: NoiseMode) -> Tensor:
        height, width = x.shape[-2:]
        if noise_mode == "random":
            return torch.randn(x.shape[0], 1, height, width, device=x.device, dtype=x.dtype)
        side = self.noise.shape[0]
        tiles = -(-height // side), -(-width // side)
        return self.noise.tile(tiles)[:height, :width].to(x.dtype)


class SuperResolution(nn.Module):
    """`layers` stages of scale 2 over the rendered features; with none the rendered colour is the picture."""

    def __init__(self, layers: int, rays: int) -> None:
        super().__init__()
        widths = [FEATURES, *(WIDTHS[min(n, 1)] for n in range(layers))]
        self.stages = nn.ModuleList(Stage(widths[n], widths[n + 1], rays * 2 ** (n + 1)) for n in range(layers))

    def forward(self, features: Tensor, noise_mode: NoiseMode = "const") -> Tensor:
        """features [B, 32, R, R], of which the first three are the colour → [B, 3, R · 2^layers, R · 2^layers]."""
        if noise_mode not in ("const", "random", "none"):
            raise ValueError("noise_mode must be const, random or none")
        x, rgb = features, features[:, :3]
        for stage in self.stages:
            x, rgb = stage(x, rgb, noise_mode)
        return rgb
