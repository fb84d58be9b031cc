"""The average of the generators of the last while: what is shown and kept (Karras et al. 2018)."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

HALF_LIFE = 10_000.0  # images
RAMP_UP = 0.05  # of the images so far

Network = TypeVar("Network", bound=nn.Module)


class ExponentialMovingAverage(Generic[Network]):
    """A copy of a network, `average`, that follows it: parameters and buffers, in evaluation mode, without gradients.

    Args:
        half_life: images after which an old weight counts for half. ramp_up: the half-life is at most this share of
            the images so far, so that the first, random weights are soon forgotten (StyleGAN2-ADA, `ema_rampup`).
    """

    def __init__(self, network: Network, half_life: float = HALF_LIFE, ramp_up: float = RAMP_UP) -> None:
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self._half_life, self._ramp_up = half_life, ramp_up

    def decay(self, batch: int, images: int) -> float:
        """What the average keeps of itself after `batch` more images, when there were `images` before them."""
        return float(0.5 ** (batch / max(min(self._half_life, images * self._ramp_up), 1e-8)))

    @torch.no_grad()
    def update(self, network: Network, batch: int, images: int) -> None:
        """Move towards `network`; integer buffers are copied."""
        move = 1 - self.decay(batch, images)
        theirs = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        for name, mine in [*self.average.named_parameters(), *self.average.named_buffers()]:
            if mine.is_floating_point():
                mine.lerp_(theirs[name].to(mine), move)
            else:
                mine.copy_(theirs[name])
