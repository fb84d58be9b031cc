"""Step 2: styles w → three feature planes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from workers.avatar.aetherist.networks.layers import StyledConv, leaky

MAX_WIDTH = 512


class Block(nn.Module):
    """Doubles the resolution (except the first) and adds its share to the planes."""

    def __init__(self, inputs: int, outputs: int, planes: int, style_dim: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.convs = nn.ModuleList(
            [StyledConv(outputs if first else inputs, outputs, style_dim)]
            + ([] if first else [StyledConv(outputs, outputs, style_dim)])
        )
        self.to_planes = StyledConv(outputs, planes, style_dim, kernel=1, demodulate=False)

    def forward(self, x: Tensor, planes: Tensor | None, w: Tensor) -> tuple[Tensor, Tensor]:
        if not self.first:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear")
        for conv in self.convs:
            x = leaky(conv(x, w))
        share = self.to_planes(x, w)
        if planes is not None:
            share = share + F.interpolate(planes, scale_factor=2.0, mode="bilinear")
        return x, share


class TriplaneSynthesis(nn.Module):
    """A StyleGAN2 synthesis network whose picture is the planes xy, xz and zy, `channels` in all.

    Where `channels` is no multiple of three the first planes have one channel more. The start's side is `resolution`
    halved while it is even and above four.
    """

    def __init__(self, channels: int, resolution: int, style_dim: int, checkpointing: bool = False) -> None:
        super().__init__()
        start, doublings = resolution, 0
        while start % 2 == 0 and start > 4:
            start, doublings = start // 2, doublings + 1
        self.channels, self._checkpointing = channels, checkpointing
        widths = [min(MAX_WIDTH, channels * (2 if n < doublings - 1 else 1)) for n in range(doublings + 1)]
        self.start = nn.Parameter(torch.randn(1, widths[0], start, start))
        self.blocks = nn.ModuleList(
            Block(widths[max(n - 1, 0)], width, channels, style_dim, n == 0) for n, width in enumerate(widths)
        )

    def forward(self, w: Tensor, skipped: int = 0) -> Tensor:
        """w [B, style_dim] → planes [B, channels, resolution, resolution]; see `features_at` for their order.

        Without the last `skipped` blocks the planes are as many times halved: a training may begin with those.
        """
        x, planes = self.start.expand(w.shape[0], -1, -1, -1), None
        for block in self.blocks[: len(self.blocks) - skipped]:
            if self._checkpointing and torch.is_grad_enabled():
                x, planes = checkpoint(block, x, planes, w, use_reentrant=False)
            else:
                x, planes = block(x, planes, w)
        assert planes is not None
        return planes


def features_at(planes: Tensor, points: Tensor) -> Tensor:
    """Features of points: each of the three planes is read where the point falls on it, and they are concatenated.

    Args:
        planes: [B, C, R, R], the channels of the planes xy, xz and zy one after another. points: [B, P, 3] in [-1, 1]³.

    Returns:
        [B, P, C]; points outside the box read the border.
    """
    x, y, z = points.unbind(-1)
    read = []
    for plane, place in zip(planes.tensor_split(3, 1), ((x, y), (x, z), (z, y)), strict=True):
        grid = torch.stack(place, -1)[:, None]
        read.append(F.grid_sample(plane, grid, padding_mode="border", align_corners=False)[:, :, 0])
    return torch.cat(read, 1).transpose(1, 2)
