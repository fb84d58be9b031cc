"""Latent codes: sampling, interpolation, and the directions along which an attribute changes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CLIP = 3.0  # standard deviations
RIDGE = 0.05  # of the linear probe, relative to the number of samples


def sample_latent_codes(
    num_samples: int, latent_dim: int = 512, truncation_psi: float = 1.0, device: torch.device | str | None = None
) -> Tensor:
    """[num_samples, latent_dim] from N(0, truncation_psi²), by torch's global generator.

    The mapping network normalises the length, so scaling alone changes no picture: for heads nearer to the average
    pass `truncation_psi` to the generator.
    """
    if not 0 <= truncation_psi <= 1:
        raise ValueError("truncation_psi must lie between 0 and 1")
    return torch.randn(num_samples, latent_dim, device=device) * truncation_psi


def interpolate_latents(latent_a: Tensor, latent_b: Tensor, steps: int = 10, mode: str = "slerp") -> Tensor:
    """The way from one latent to another, [steps, *latent_a.shape]; the ends are exactly the two.

    `mode` is slerp (along the great circle, Shoemake 1985, with the length interpolated) or linear (also "lerp").
    """
    if steps < 2:
        raise ValueError("steps must be at least 2")
    if mode not in ("slerp", "linear", "lerp"):
        raise ValueError("mode must be slerp or linear")
    if latent_a.shape != latent_b.shape:
        raise ValueError("both latents must have one shape")
    t = torch.linspace(0, 1, steps).to(latent_a).reshape(-1, *[1] * latent_a.ndim)
    straight = latent_a * (1 - t) + latent_b * t
    path = straight
    if mode == "slerp":
        a, b = F.normalize(latent_a, dim=-1), F.normalize(latent_b, dim=-1)
        angle = 2 * torch.atan2((a - b).norm(dim=-1, keepdim=True), (a + b).norm(dim=-1, keepdim=True))
        turned = (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin().clamp_min(1e-6)
        length = latent_a.norm(dim=-1, keepdim=True) * (1 - t) + latent_b.norm(dim=-1, keepdim=True) * t
        usable = (angle > 1e-3) & (angle < torch.pi - 1e-3)  # opposite latents have no shortest great circle
        path = torch.where(usable, turned * length, straight)
    path[0], path[-1] = latent_a, latent_b
    return path


def normalize_latent_codes(latent_codes: Tensor, method: str = "clip") -> Tensor:
    """Bring latents into the range that the generator knows, the same shape.

    `clip` limits each number to ±3, `sphere` gives the length √dim (what most normal samples have), `standardize`
    mean 0 and deviation 1.
    """
    if method == "clip":
        return latent_codes.clamp(-CLIP, CLIP)
    if method == "sphere":
        return F.normalize(latent_codes, dim=-1) * latent_codes.shape[-1] ** 0.5
    if method == "standardize":
        centred = latent_codes - latent_codes.mean(-1, keepdim=True)
        return centred / centred.std(-1, keepdim=True).clamp_min(1e-8)
    raise ValueError("method must be clip, sphere or standardize")


def find_latent_directions(attribute_vectors: dict[str, Tensor], latent_codes: Tensor) -> dict[str, Tensor]:
    """Directions along which attributes grow, estimated from labelled samples.

    A ridge regression of each attribute's standardised values on the latents (a linear probe, as InterFaceGAN's
    boundary, Shen et al. 2020, for values instead of two classes).

    Args:
        attribute_vectors: for each attribute its value at every sample, [N]. latent_codes: [N, D].

    Returns:
        For each attribute a unit vector [D].

    Raises:
        ValueError: an attribute has another number of values, or does not vary.
    """
    x = latent_codes.double()
    x = x - x.mean(0)
    gram = x.T @ x + RIDGE * len(x) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    found = {}
    for name, values in attribute_vectors.items():
        y = values.double().to(x.device)
        if y.shape != (len(x),):
            raise ValueError(f"{name}: {list(y.shape)} values for {len(x)} latents")
        spread = y.std()
        if not spread > 1e-12:
            raise ValueError(f"{name} does not vary")
        slope = torch.linalg.solve(gram, x.T @ ((y - y.mean()) / spread))
        found[name] = F.normalize(slope, dim=0).to(latent_codes.dtype)
    return found
