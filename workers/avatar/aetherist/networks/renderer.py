"""Step 5: rays through the planes → a picture of features, depth and opacity."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from workers.avatar.aetherist.networks.decoder import FEATURES, Decoder
from workers.avatar.aetherist.networks.synthesis import features_at

CHUNK = 4096  # rays decoded at once when no gradient is needed
EMPTY = 0.75  # no surface lies between samples whose distances exceed this share of their spacing


@dataclass(frozen=True)
class Rendering:
    """Along each of P rays: features [B, P, 32], expected depth [B, P] (where it is opaque), opacity [B, P], 0 to 1."""

    features: Tensor
    depth: Tensor
    opacity: Tensor


class VolumeRenderer(nn.Module):
    """Coarse samples between the ray's entry into the box [-1, 1]³ and its exit, then samples where those saw something
    (NeRF's hierarchical sampling, Mildenhall et al. 2020). The background is white and has no other feature."""

    def __init__(self, decoder: Decoder, coarse: int, importance: int) -> None:
        super().__init__()
        self.decoder, self._coarse, self._importance = decoder, coarse, importance

    def forward(self, planes: Tensor, origins: Tensor, directions: Tensor) -> Rendering:
        """planes [B, C, R, R]; origins and unit directions [B, P, 3]. Sample places are jittered while training."""
        if torch.is_grad_enabled() or origins.shape[1] <= CHUNK:
            return self._render(planes, origins, directions)
        parts = [
            self._render(planes, o, d) for o, d in zip(origins.split(CHUNK, 1), directions.split(CHUNK, 1), strict=True)
        ]
        features, depth, opacity = (torch.cat([getattr(p, f.name) for p in parts], 1) for f in fields(Rendering))
        return Rendering(features, depth, opacity)

    def _render(self, planes: Tensor, origins: Tensor, directions: Tensor) -> Rendering:
        near, far = cross_box(origins, directions)
        inside = far > near
        near, far = torch.where(inside, near, 1.0), torch.where(inside, far, 1.0)
        t = self._coarse_places(near, far)
        features, distance = self._decode(planes, origins, directions, t)
        if torch.is_grad_enabled() or self.training:
            return self._look_closer(planes, origins, directions, near, far, inside, t, features, distance)
        # Each ray is judged for itself, so that a picture does not depend on the others of its batch.
        inside = inside & (distance.amin(-1) < EMPTY * (far - near) / self._coarse)
        rays = (origins, directions, near, far, inside, t, features, distance)
        found = Rendering(_white(t).repeat(*near.shape, 1), torch.full_like(near, torch.inf), torch.zeros_like(near))
        busy = inside.any(0)
        if busy.any():
            part = self._look_closer(planes, *(value[:, busy] for value in rays))
            for name in ("features", "depth", "opacity"):
                getattr(found, name)[:, busy] = getattr(part, name)
        return found

    def _look_closer(
        self,
        planes: Tensor,
        origins: Tensor,
        directions: Tensor,
        near: Tensor,
        far: Tensor,
        inside: Tensor,
        t: Tensor,
        features: Tensor,
        distance: Tensor,
    ) -> Rendering:
        """Add the samples by importance, and compose all along each ray."""
        if self._importance:
            with torch.no_grad():
                weights = self._weights(distance, t, far)
                more = self._important_places(t, weights, near, far)
            extra_features, extra_distance = self._decode(planes, origins, directions, more)
            t, order = torch.cat([t, more], -1).sort(-1)
            distance = torch.cat([distance, extra_distance], -1).gather(-1, order)
            both = torch.cat([features, extra_features], -2)
            features = both.gather(-2, order[..., None].expand_as(both))
        weights = self._weights(distance, t, far) * inside[..., None]
        opacity = weights.sum(-1).clamp(0, 1)
        depth = (weights * t).sum(-1) / opacity.clamp_min(1e-6)
        seen = (weights[..., None] * features).sum(-2) + (1 - opacity[..., None]) * _white(t)
        return Rendering(seen, torch.where(opacity > 1e-3, depth, torch.inf), opacity)

    def _decode(self, planes: Tensor, origins: Tensor, directions: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        points = (origins[:, :, None] + t[..., None] * directions[:, :, None]).flatten(1, 2)
        features, distance = self.decoder(features_at(planes, points), points)
        return features.unflatten(1, t.shape[1:]), distance.unflatten(1, t.shape[1:])

    def _coarse_places(self, near: Tensor, far: Tensor) -> Tensor:
        cells = torch.arange(self._coarse, device=near.device, dtype=near.dtype)
        offset = torch.rand(*near.shape, self._coarse, device=near.device) if self.training else 0.5
        return near[..., None] + (far - near)[..., None] * (cells + offset) / self._coarse

    def _weights(self, distance: Tensor, t: Tensor, far: Tensor) -> Tensor:
        step = torch.diff(t, append=torch.maximum(far[..., None], t[..., -1:]))
        thickness = self.decoder.density(distance) * step
        before = torch.cumsum(thickness, -1) - thickness
        return torch.exp(-before) * (1 - torch.exp(-thickness))

    def _important_places(self, t: Tensor, weights: Tensor, near: Tensor, far: Tensor) -> Tensor:
        """Inverse transform sampling of the piecewise constant density that the coarse weights describe."""
        edges = torch.cat([near[..., None], (t[..., 1:] + t[..., :-1]) / 2, far[..., None]], -1)
        # A surface between two samples shows in the later one only: let each weight reach its neighbour too.
        wide = torch.nn.functional.pad(weights, (0, 1))
        wide = torch.maximum(wide[..., :-1], wide[..., 1:]) + 1e-3
        total = torch.cumsum(wide / wide.sum(-1, keepdim=True), -1)
        total = torch.nn.functional.pad(total, (1, 0))
        count = self._importance
        offset = torch.rand(*t.shape[:-1], count, device=t.device) if self.training else 0.5
        u = ((torch.arange(count, device=t.device, dtype=t.dtype) + offset) / count).expand(*t.shape[:-1], count)
        place = torch.searchsorted(total, u.contiguous(), right=True).clamp(1, wide.shape[-1])
        low, high = total.gather(-1, place - 1), total.gather(-1, place)
        start, end = edges.gather(-1, place - 1), edges.gather(-1, place)
        return start + (end - start) * ((u - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)


def _white(like: Tensor) -> Tensor:
    return torch.cat([like.new_ones(3), like.new_zeros(FEATURES - 3)])


def cross_box(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Distances [...] at which rays enter and leave the box [-1, 1]³; a ray that misses it leaves before it enters."""
    safe = torch.where(directions.abs() < 1e-9, 1e-9, directions)
    a, b = (-1 - origins) / safe, (1 - origins) / safe
    return torch.minimum(a, b).amax(-1).clamp_min(0), torch.maximum(a, b).amin(-1)
