"""Step 3: cameras → rays."""

from __future__ import annotations

import torch
from torch import Tensor

from workers.avatar.aetherist.cameras import unpack_cameras


def sample_rays(cameras: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """One ray through the centre of each pixel of a square picture, row by row.

    Args:
        cameras: [B, 25].

    Returns:
        Origins and unit directions, both [B, resolution², 3], in world coordinates.
    """
    cam2world, k = unpack_cameras(cameras)
    centres = (torch.arange(resolution).to(cameras) + 0.5) / resolution
    v, u = torch.meshgrid(centres, centres, indexing="ij")
    u, v = u.reshape(1, -1), v.reshape(1, -1)
    y = (v - k[:, 1, 2, None]) / k[:, 1, 1, None]
    x = (u - k[:, 0, 2, None] - k[:, 0, 1, None] * y) / k[:, 0, 0, None]
    local = torch.stack([x, y, torch.ones_like(x)], -1)
    directions = torch.nn.functional.normalize(local @ cam2world[:, :3, :3].transpose(1, 2), dim=-1)
    return cam2world[:, None, :3, 3].expand_as(directions), directions
