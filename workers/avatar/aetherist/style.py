"""Style transfer without downloaded weights: a picture's colours and contrasts, taken over by the avatar's pictures.

The style of a picture is 13 numbers: mean and covariance of its colours, and how strong its luminance varies in four
octaves of detail. One transform, found on the avatar's front view, is applied to every view alike, so that a point of
the head keeps its colour from all sides.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from workers.avatar.aetherist.cameras import CameraConfig

if TYPE_CHECKING:
    from PIL.Image import Image

    from workers.avatar.aetherist.generator import AetheristGenerator

SIDE = 256  # pixels at which styles are read
OCTAVES = (128, 64, 32, 16)
MAX_GAIN, MAX_STRETCH = 2.0, 3.0
LUMA = (0.299, 0.587, 0.114)
STEPS, RATE, SKETCH = 12, 0.06, 128  # of the search for a latent


@dataclass(frozen=True)
class StyleMap:
    """How pictures change: an affine map of colours [3, 3], [3], and a gain for each octave of detail [4]."""

    matrix: Tensor
    source: Tensor
    target: Tensor
    gains: Tensor

    def apply(self, images: Tensor, weight: float) -> Tensor:
        """[B, 3, H, W] in [-1, 1] → the same; weight 0 gives the very same pictures, 1 the full style."""
        if weight == 0:
            return images
        images = images.clamp(-1, 1)  # an overshoot of the white background would be a colour of its own
        shifted = images - self.source[:, None, None]
        coloured = torch.einsum("ij,bjhw->bihw", self.matrix, shifted) + self.target[:, None, None]
        levels = _levels(coloured)
        details = [(a - b) * (gain - 1) for (a, b), gain in zip(itertools.pairwise(levels), self.gains, strict=True)]
        styled = coloured + torch.stack(details).sum(0)
        return (images + weight * (styled - images)).clamp(-1, 1)


class StyleTransfer:
    """Gives a generator's avatars the style of pictures."""

    def __init__(self, generator: AetheristGenerator) -> None:
        self.generator = generator

    def transfer(
        self,
        latent_code: Tensor,
        style_image: Image,
        camera_params: Tensor,
        style_weight: float = 1.0,
        preserve_identity: bool = True,
    ) -> Tensor:
        """Styled pictures of one head.

        Args:
            latent_code: [1, latent_dim]. camera_params: [B, 25]. style_weight: 0 (the plain avatar) to 1.
            preserve_identity: False lets the latent move as well, towards a head whose own colours fit the style.

        Returns:
            [B, 3, H, W], about [-1, 1].

        Raises:
            ValueError: a shape is wrong, or the weight is beyond its range.
        """
        if not 0 <= style_weight <= 1:
            raise ValueError("style_weight must lie between 0 and 1")
        style = self.encode_style(style_image)
        if not preserve_identity and style_weight > 0:
            latent_code = self.apply_style_vector(latent_code, style, style_weight)
        with torch.set_grad_enabled(torch.is_grad_enabled() and latent_code.requires_grad):
            planes = self.generator.planes(latent_code)
            pictures = torch.cat([self.generator.view(planes, camera[None]).image for camera in camera_params])
        return self.style_map(planes, style).apply(pictures, style_weight)

    def encode_style(self, image: Image) -> Tensor:
        """A picture → its style [13]: mean (3), covariance (6), deviations in four octaves of luminance (4).

        What is transparent counts as white, which is the avatars' background.
        """
        from workers.avatar.aetherist.images import pil_to_tensor

        return style_of(pil_to_tensor(image)[None])

    def apply_style_vector(self, latent_code: Tensor, style_vector: Tensor, weight: float = 1.0) -> Tensor:
        """The latent [1, latent_dim] moved by gradient descent until its front view's style is nearer to the vector.

        `weight` is the share of the way that is gone; 0 returns the latent itself.
        """
        if weight == 0:
            return latent_code
        camera = CameraConfig.create_front_view(latent_code.device)
        moved = latent_code.detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([moved], lr=RATE)
        with torch.enable_grad():
            for _ in range(STEPS):
                raw = self.generator.view(self.generator.planes(moved), camera, SKETCH).raw
                loss = style_distance(style_of(raw), style_vector.to(raw))
                (gradient,) = torch.autograd.grad(loss, moved)
                moved.grad = gradient
                optimizer.step()
        return latent_code + weight * (moved.detach() - latent_code)

    @torch.no_grad()
    def style_map(self, planes: Tensor, style: Tensor) -> StyleMap:
        """The transform for the head of these planes [1, …]: linear Monge–Kantorovich transport of its colours
        (Pitié & Kokaram 2007), then gains of the octaves, both kept within bounds."""
        camera = CameraConfig.create_front_view(planes.device)
        own = self.generator.view(planes, camera, SIDE).image
        mean, covariance, _ = _parts(style_of(own))
        wanted_mean, wanted_covariance, wanted_octaves = _parts(style.to(own))
        matrix = _transport(covariance, wanted_covariance)
        plain = StyleMap(matrix, mean, wanted_mean, torch.ones(len(OCTAVES)).to(own))
        _, _, octaves = _parts(style_of(plain.apply(own, 1.0)))
        gains = (wanted_octaves / octaves.clamp_min(1e-3)).clamp(1 / MAX_GAIN, MAX_GAIN)
        return StyleMap(matrix, mean, wanted_mean, gains)


def style_of(pictures: Tensor) -> Tensor:
    """[1, 3, H, W] in [-1, 1] → style [13]. Differentiable."""
    picture = F.interpolate(pictures, (SIDE, SIDE), mode="bilinear", antialias=True).clamp(-1, 1)
    pixels = picture[0].flatten(1)
    mean = pixels.mean(1)
    centred = pixels - mean[:, None]
    covariance = centred @ centred.T / pixels.shape[1]
    levels = _levels((picture * torch.tensor(LUMA).to(picture)[:, None, None]).sum(1, keepdim=True))
    octaves = [(a - b).square().mean().add(1e-8).sqrt() for a, b in itertools.pairwise(levels)]
    rows, columns = torch.triu_indices(3, 3)
    return torch.cat([mean, covariance[rows, columns], torch.stack(octaves)])


def style_distance(one: Tensor, other: Tensor) -> Tensor:
    """How far two styles [13] are apart: means, covariances, and logarithms of the octaves, weighted alike."""
    mean, covariance, octaves = _parts(one)
    other_mean, other_covariance, other_octaves = _parts(other)
    ratio = (octaves.clamp_min(1e-3) / other_octaves.clamp_min(1e-3)).log()
    contrast = ratio.square().mean().add(1e-12).sqrt()
    return (mean - other_mean).norm() + (covariance - other_covariance).norm() + 0.25 * contrast


def _levels(pictures: Tensor) -> list[Tensor]:
    """The pictures and their blurs; the difference of neighbours is one octave."""
    size = pictures.shape[-2:]
    blurred = [
        F.interpolate(F.interpolate(pictures, (side, side), mode="bilinear", antialias=True), size, mode="bilinear")
        for side in OCTAVES
    ]
    return [pictures, *blurred]


def _parts(style: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    covariance = torch.zeros(3, 3).to(style)
    rows, columns = torch.triu_indices(3, 3)
    covariance[rows, columns] = style[3:9]
    covariance = covariance + covariance.triu(1).T
    return style[:3], covariance, style[9:]


def _transport(source: Tensor, target: Tensor) -> Tensor:
    """The symmetric matrix that turns one covariance into the other with the least movement."""
    root = _root(source)
    inverse = torch.linalg.inv(root)
    matrix = inverse @ _root(root @ target @ root) @ inverse
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.clamp(0, MAX_STRETCH)) @ vectors.T


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return vectors @ torch.diag(values.clamp_min(1e-5).sqrt()) @ vectors.T
