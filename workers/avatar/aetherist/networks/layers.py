"""Layers with an equalised learning rate (Karras et al. 2018): weights are N(0, 1) and scaled when they are used."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GAIN = math.sqrt(2)  # keeps the variance through a leaky ReLU


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU 0.2 with unit gain."""
    return F.leaky_relu(x, 0.2) * GAIN


class EqualLinear(nn.Module):
    """[…, inputs] → […, outputs].

    `lr_multiplier` slows learning down. The weights are divided by it when they are made, so that the layer's output
    does not depend on it; without that a slow layer lets nothing through (StyleGAN2, `FullyConnectedLayer`).
    """

    def __init__(self, inputs: int, outputs: int, *, bias: float = 0.0, lr_multiplier: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr_multiplier))
        self._weight_gain, self._bias_gain = lr_multiplier / math.sqrt(inputs), lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self._weight_gain, self.bias * self._bias_gain)


class EqualConv(nn.Module):
    """[B, inputs, H, W] → [B, outputs, H, W]."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self._gain, self._padding = 1 / math.sqrt(inputs * kernel**2), kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self._gain, self.bias, padding=self._padding)


class StyledConv(nn.Module):
    """A convolution whose weights are scaled by a style and normalised (StyleGAN2, weight demodulation).

    Scaling the input channels and then the output channels is the same as scaling the weights of each sample.
    """

    def __init__(self, inputs: int, outputs: int, style_dim: int, kernel: int = 3, demodulate: bool = True) -> None:
        super().__init__()
        self.style = EqualLinear(style_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self._gain, self._padding, self._demodulate = 1 / math.sqrt(inputs * kernel**2), kernel // 2, demodulate

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x [B, inputs, H, W], w [B, style_dim] → [B, outputs, H, W]."""
        style, weight = self.style(w), self.weight * self._gain
        out = F.conv2d(x * style[:, :, None, None].to(x.dtype), weight, padding=self._padding)
        if self._demodulate:
            energy = style.square() @ weight.square().sum((2, 3)).T
            out = out * torch.rsqrt(energy + 1e-8)[:, :, None, None].to(out.dtype)
        return out + self.bias[:, None, None].to(out.dtype)
