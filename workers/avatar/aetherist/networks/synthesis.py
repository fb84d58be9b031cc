"""Step 2: styles w → three feature planes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from workers.avatar.aetherist.networks.layers import StyledConv, leaky

MAX_WIDTH = 512
MIDDLE = 32  # the side at which a block is as wide as the planes are deep; twice as wide below, half as wide above


class Block(nn.Module):
    """Adds its learnt constant, after doubling the resolution (except the first), and then its share to the planes.

    A constant of each resolution, where StyleGAN2 has one of 4 × 4: what lies at a fixed place (an eye, a mouth) need
    not be worked out from the coarse one, which takes long.
    """

    def __init__(self, inputs: int, outputs: int, planes: int, style_dim: int, side: int, first: bool) -> None:
        super().__init__()
        self.first = first
        start = torch.randn if first else torch.zeros
        self.constant = nn.Parameter(start(1, inputs, side, side))
        self.convs = nn.ModuleList(
            [StyledConv(inputs, outputs, style_dim)] + ([] if first else [StyledConv(outputs, outputs, style_dim)])
        )
        self.to_planes = StyledConv(outputs, planes, style_dim, kernel=1, demodulate=False)

    def forward(self, x: Tensor | None, planes: Tensor | None, w: Tensor) -> tuple[Tensor, Tensor]:
        if x is None:
            x = self.constant.expand(w.shape[0], -1, -1, -1)
        else:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear") + self.constant.to(x.dtype)
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
        widths = [_width(channels, start << n) for n in range(doublings + 1)]
        self.blocks = nn.ModuleList(
            Block(widths[max(n - 1, 0)], width, channels, style_dim, start << n, n == 0)
            for n, width in enumerate(widths)
        )

    def forward(self, w: Tensor, skipped: int = 0) -> Tensor:
        """w [B, style_dim] → planes [B, channels, resolution, resolution]; see `features_at` for their order.

        Without the last `skipped` blocks the planes are as many times halved: a training may begin with those.
        """
        x: Tensor | None = None
        planes: Tensor | None = None
        for block in self.blocks[: len(self.blocks) - skipped]:
            if self._checkpointing and torch.is_grad_enabled():
                x, planes = checkpoint(block, x, planes, w, use_reentrant=False)
            else:
                x, planes = block(x, planes, w)
        assert planes is not None
        return planes


def _width(channels: int, side: int) -> int:
    if side < MIDDLE:
        return min(MAX_WIDTH, 2 * channels)
    return channels if side == MIDDLE else max(1, channels // 2)


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
