"""What the generator is trained against: is this picture real, seen from this camera?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

DEPTH = 5  # blocks of a branch, each of which halves the side while it is above SMALLEST
SMALLEST = 4
EMBEDDING = 128  # of a camera
CAMERA = 25

Wrap = Callable[[nn.Module], nn.Module]


class Block(nn.Module):
    """[B, inputs, H, W] → [B, outputs, H/2, W/2] (or H, W at 4 and below): two convolutions beside a 1×1 one."""

    def __init__(self, inputs: int, outputs: int, wrap: Wrap) -> None:
        super().__init__()
        self.first = wrap(nn.Conv2d(inputs, inputs, 3, padding=1))
        self.second = wrap(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.skip = wrap(nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.second(F.leaky_relu(self.first(x), 0.2)), 0.2)
        if min(x.shape[-2:]) > SMALLEST:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        return (y + self.skip(x)) / math.sqrt(2)


class Branch(nn.Module):
    """One scale: features φ of the picture, and the logit ψ(φ) + ⟨V e, φ⟩ of it and the camera's embedding e.

    That is the projection discriminator (Miyato & Koyama 2018, equation 4). φ is the sum over the places that they
    have at the end, 4×4; where there are more, it is their mean times 16, so that logits do not grow with the picture.
    """

    def __init__(self, image_channels: int, base_channels: int, max_channels: int, wrap: Wrap) -> None:
        super().__init__()
        widths = [min(base_channels * 2**n, max_channels) for n in range(DEPTH + 1)]
        self.stem = wrap(nn.Conv2d(image_channels, widths[0], 3, padding=1))
        self.blocks = nn.ModuleList(Block(a, b, wrap) for a, b in itertools.pairwise(widths))
        self.head = wrap(nn.Linear(widths[-1], 1))
        self.projection = wrap(nn.Linear(EMBEDDING, widths[-1], bias=False))

    def forward(self, images: Tensor, embedding: Tensor) -> Tensor:
        """images [B, C, H, W], embedding [B, 128] → logits [B]."""
        x = F.leaky_relu(self.stem(images), 0.2)
        for block in self.blocks:
            x = block(x)
        features = x.float().mean((2, 3)) * SMALLEST**2
        return self.head(features)[:, 0] + (self.projection(embedding) * features).sum(-1)


class Discriminator(nn.Module):
    """A branch for the picture at each of `num_scales` sizes: 1, 1/2, 1/4, …

    Args:
        image_channels: of the pictures. base_channels: of a branch's first layer; each block doubles them, up to
            `max_channels`. use_spectral_norm: divide each weight by its largest singular value (Miyato et al. 2018).

    Raises:
        ValueError: a number is below 1.
    """

    def __init__(
        self,
        *,
        image_channels: int = 3,
        base_channels: int = 64,
        max_channels: int = 512,
        num_scales: int = 3,
        use_spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        if min(image_channels, base_channels, max_channels, num_scales) < 1:
            raise ValueError("image_channels, base_channels, max_channels and num_scales must be at least 1")
        wrap: Wrap = spectral_norm if use_spectral_norm else _plain
        self.image_channels = image_channels
        self.embedding = nn.Sequential(
            wrap(nn.Linear(CAMERA, EMBEDDING)), nn.LeakyReLU(0.2), wrap(nn.Linear(EMBEDDING, EMBEDDING))
        )
        self.branches = nn.ModuleList(
            Branch(image_channels, base_channels, max_channels, wrap) for _ in range(num_scales)
        )

    def forward(self, images: Tensor, cameras: Tensor) -> Tensor:
        """Logits of pictures and the cameras they claim to be seen from; high is real.

        Args:
            images: [B, image_channels, H, W], [-1, 1], sides of at least 2 · 2^(num_scales - 1). cameras: [B, 25].

        Returns:
            [B, num_scales], the full size first.

        Raises:
            ValueError: a shape is wrong.
        """
        if images.ndim != 4 or images.shape[1] != self.image_channels:
            raise ValueError(f"images must be [B, {self.image_channels}, H, W], not {list(images.shape)}")
        if min(images.shape[-2:]) < (least := 2 ** len(self.branches)):
            raise ValueError(f"pictures must be at least {least} wide and high, not {list(images.shape[-2:])}")
        if cameras.shape != (len(images), CAMERA):
            raise ValueError(f"cameras must be [{len(images)}, {CAMERA}], not {list(cameras.shape)}")
        embedding, logits = self.embedding(cameras), []
        for number, branch in enumerate(self.branches):
            images = F.avg_pool2d(images, 2) if number else images
            logits.append(branch(images, embedding))
        return torch.stack(logits, 1)


def _plain(layer: nn.Module) -> nn.Module:
    return layer
