"""Step 4: features of a point → what is there."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from workers.avatar.aetherist.networks.layers import EqualLinear, leaky

HIDDEN = 256
FEATURES = 32  # the first three are the colour
START_RADIUS = 0.6
SHARPNESS = 0.05


class Decoder(nn.Module):
    """A small MLP: `layers` linear layers, hidden width 256, tanh on the features.

    Geometry is a signed distance d; its density is sigmoid(-d / β) / β with a learnt β (StyleSDF, Or-El et al. 2022),
    so the surface is d = 0 whatever β is. The distance is what the MLP adds to a ball, from which training starts.
    """

    def __init__(self, inputs: int, layers: int) -> None:
        super().__init__()
        widths = [inputs, *[HIDDEN] * (layers - 1), FEATURES + 1]
        self.layers = nn.ModuleList(EqualLinear(a, b) for a, b in itertools.pairwise(widths))
        self.log_beta = nn.Parameter(torch.tensor(SHARPNESS).log())

    def forward(self, features: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """features [..., C], points [..., 3] → appearance [..., 32] in [-1, 1], signed distance [...]."""
        for layer in self.layers[:-1]:
            features = leaky(layer(features))
        out = self.layers[-1](features).float()
        return torch.tanh(out[..., :-1]), out[..., -1] + points.norm(dim=-1) - START_RADIUS

    def density(self, distance: Tensor) -> Tensor:
        """Signed distance → density per unit of length."""
        beta = self.log_beta.exp()
        return torch.sigmoid(-distance / beta) / beta
