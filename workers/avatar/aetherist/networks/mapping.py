"""Step 1: latents z → styles w."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workers.avatar.aetherist.networks.layers import EqualLinear, leaky

LAYERS = 2  # as EG3D, whose mapping network is that shallow too
LR_MULTIPLIER = 0.01
AVERAGE_DECAY = 0.998


class MappingNetwork(nn.Module):
    """Pixel norm and two slow layers; `w_avg`, the moving average of w, is part of the checkpoint."""

    w_avg: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EqualLinear(latent_dim, latent_dim, lr_multiplier=LR_MULTIPLIER) for _ in range(LAYERS)
        )
        self.register_buffer("w_avg", torch.zeros(latent_dim))

    def forward(self, z: Tensor, truncation_psi: float = 1.0) -> Tensor:
        """z [B, latent_dim] → w [B, latent_dim]; `truncation_psi` 0 gives the average head, 1 the head of z."""
        w = z * torch.rsqrt(z.square().mean(-1, keepdim=True) + 1e-8)
        for layer in self.layers:
            w = leaky(layer(w))
        if self.training:
            with torch.no_grad():
                self.w_avg.lerp_(w.float().mean(0), 1 - AVERAGE_DECAY)
        return w if truncation_psi == 1 else self.w_avg.to(w).lerp(w, truncation_psi)
