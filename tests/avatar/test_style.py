"""Style transfer: how styles are read, that the distance to them falls, and that all views change alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from tests.avatar.tiny import signature
from workers.avatar.aetherist import AetheristGenerator, CameraConfig, StyleTransfer, generate_camera_poses
from workers.avatar.aetherist.style import SKETCH, StyleMap, style_distance, style_of

FRONT = CameraConfig.create_front_view()
CAMERAS = generate_camera_poses(2)


@pytest.fixture(scope="module")
def painting() -> Image.Image:
    """Orange and blue stripes under grain."""
    dice = np.random.default_rng(3)
    stripes = np.where(np.arange(96)[:, None, None] // 8 % 2, (230, 120, 30), (30, 60, 150))
    return Image.fromarray((stripes + dice.normal(0, 25, (96, 96, 3))).clip(0, 255).astype(np.uint8))


@pytest.fixture
def latent() -> Tensor:
    return torch.randn(1, 32, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def transfer(generator: AetheristGenerator) -> StyleTransfer:
    return StyleTransfer(generator)


def test_the_signatures_are_as_promised() -> None:
    assert signature(StyleTransfer) == "(generator)"
    assert signature(StyleTransfer.transfer) == (
        "(latent_code, style_image, camera_params, style_weight=1.0, preserve_identity=True)"
    )
    assert signature(StyleTransfer.encode_style) == "(image)"
    assert signature(StyleTransfer.apply_style_vector) == "(latent_code, style_vector, weight=1.0)"


# Styles


def test_a_flat_picture_has_its_colour_and_nothing_else() -> None:
    style = style_of(torch.tensor([0.5, -0.25, 1.0])[:, None, None].expand(1, 3, 20, 30))
    assert style.shape == (13,)
    assert style[:3].tolist() == pytest.approx([0.5, -0.25, 1.0])
    assert style[3:].abs().max() < 1e-3


def test_colours_that_go_together_and_the_size_of_details_are_read() -> None:
    wave = 0.5 * torch.sin(torch.arange(256) * math.tau / 4)  # of 4 pixels: in the finest octave
    stripes = torch.stack([wave, wave, -wave])[:, None].expand(1, 3, 256, 256)
    coarse = torch.stack([wave, wave, -wave])[:, None].repeat_interleave(8, -1)[..., :256].expand(1, 3, 256, 256)
    style = style_of(stripes)
    assert style[3:9].tolist() == pytest.approx([0.125, 0.125, -0.125, 0.125, -0.125, 0.125], abs=1e-4)
    assert style[9:].argmax() == 0
    assert style_of(coarse)[9:].argmax() > 1


def test_the_distance_is_0_to_itself_and_the_same_both_ways() -> None:
    one, other = style_of(torch.rand(1, 3, 64, 64)), style_of(torch.rand(1, 3, 8, 8) - 1)
    assert style_distance(one, one).item() == pytest.approx(0, abs=1e-6)
    assert style_distance(one, other).item() == pytest.approx(style_distance(other, one).item())
    assert style_distance(one, other) > 0.5


def test_a_picture_s_hidden_colours_are_not_its_style(transfer: StyleTransfer, painting: Image.Image) -> None:
    hidden = painting.copy()
    hidden.putalpha(0)
    white = Image.new("RGB", painting.size, "white")
    assert torch.allclose(transfer.encode_style(hidden), transfer.encode_style(white), atol=1e-6)


# Transfer


def test_weight_0_is_exactly_the_plain_avatar(transfer: StyleTransfer, latent: Tensor, painting: Image.Image) -> None:
    with torch.no_grad():
        plain = torch.cat([transfer.generator(latent, camera[None]) for camera in CAMERAS])
    for preserve_identity in (True, False):
        styled = transfer.transfer(latent, painting, CAMERAS, 0, preserve_identity)
        assert torch.equal(styled, plain)


def test_the_more_weight_the_nearer_to_the_style(
    transfer: StyleTransfer, latent: Tensor, painting: Image.Image
) -> None:
    style = transfer.encode_style(painting)
    weights = (0, 0.25, 0.5, 0.75, 1)
    pictures = [transfer.transfer(latent, painting, FRONT, weight) for weight in weights]
    assert all(picture.shape == (1, 3, 32, 32) for picture in pictures)
    assert all(picture.abs().max() <= 1 for picture in pictures[1:])
    distances = [style_distance(style_of(picture), style).item() for picture in pictures]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.6 * distances[0]


def test_all_views_change_alike(transfer: StyleTransfer, latent: Tensor, painting: Image.Image) -> None:
    views = transfer.transfer(latent, painting, CAMERAS)
    with torch.no_grad():
        shared = transfer.style_map(transfer.generator.planes(latent), transfer.encode_style(painting))
        plain = [transfer.generator(latent, camera[None]) for camera in CAMERAS]
    for camera, view, unstyled in zip(CAMERAS, views, plain, strict=True):
        assert torch.allclose(view[None], shared.apply(unstyled, 1.0), atol=1e-5)
        assert torch.allclose(view[None], transfer.transfer(latent, painting, camera[None]), atol=1e-5)


def test_details_are_taken_over_octave_by_octave(
    transfer: StyleTransfer, latent: Tensor, painting: Image.Image
) -> None:
    picture, nothing = 0.2 * torch.randn(1, 3, 256, 256), torch.zeros(3)
    doubled = StyleMap(torch.eye(3), nothing, nothing, torch.tensor([2.0, 1, 1, 1])).apply(picture, 1)
    ratios = style_of(doubled)[9:] / style_of(picture)[9:]
    assert ratios[[0, 3]].tolist() == pytest.approx([2, 1], abs=0.15)
    assert ratios.tolist() == sorted(ratios.tolist(), reverse=True)  # blurs are soft: neighbours gain a little

    planes, blurred = transfer.generator.planes(latent), painting.filter(ImageFilter.GaussianBlur(4))
    rough, smooth = (transfer.style_map(planes, transfer.encode_style(image)).gains for image in (painting, blurred))
    assert rough[0] > smooth[0]
    assert 0.5 <= min(rough.min(), smooth.min()) <= max(rough.max(), smooth.max()) <= 2


def test_a_flat_style_and_a_flat_avatar_are_no_trouble(transfer: StyleTransfer, latent: Tensor) -> None:
    styled = transfer.transfer(latent, Image.new("RGB", (5, 3), (128, 128, 128)), FRONT)
    assert torch.isfinite(styled).all()
    far = CameraConfig.create_orbit(radius=500, num_views=1)
    assert torch.isfinite(transfer.transfer(latent, Image.new("L", (1, 1)), far)).all()


def test_without_identity_the_latent_goes_towards_the_style(
    transfer: StyleTransfer, latent: Tensor, painting: Image.Image
) -> None:
    style = transfer.encode_style(painting)

    def loss(code: Tensor) -> float:
        with torch.no_grad():
            raw = transfer.generator.view(transfer.generator.planes(code), FRONT, SKETCH).raw
        return style_distance(style_of(raw), style).item()

    moved = transfer.apply_style_vector(latent, style)
    assert moved.shape == latent.shape
    assert not moved.requires_grad
    assert loss(moved) < loss(latent)
    assert torch.allclose(transfer.apply_style_vector(latent, style, 0.5), (latent + moved) / 2, atol=1e-5)
    assert transfer.apply_style_vector(latent, style, 0) is latent
    free = transfer.transfer(latent, painting, FRONT, preserve_identity=False)
    assert torch.allclose(free, transfer.transfer(moved, painting, FRONT), atol=1e-4)
    assert not torch.allclose(free, transfer.transfer(latent, painting, FRONT), atol=0.05)


def test_the_search_leaves_the_network_alone(transfer: StyleTransfer, latent: Tensor, painting: Image.Image) -> None:
    before = {name: value.clone() for name, value in transfer.generator.state_dict().items()}
    with torch.no_grad():
        transfer.transfer(latent, painting, FRONT, preserve_identity=False)
    assert all(torch.equal(before[name], value) for name, value in transfer.generator.state_dict().items())
    assert all(p.grad is None for p in transfer.generator.parameters())


@pytest.mark.parametrize("weight", [-0.1, 1.1, math.nan])
def test_a_weight_beyond_its_range_is_refused(
    transfer: StyleTransfer, latent: Tensor, painting: Image.Image, weight: float
) -> None:
    with pytest.raises(ValueError, match="style_weight must lie between 0 and 1"):
        transfer.transfer(latent, painting, FRONT, weight)


def test_two_heads_at_once_are_refused(transfer: StyleTransfer, painting: Image.Image) -> None:
    with pytest.raises(ValueError, match="1 cameras for 2 heads"):
        transfer.transfer(torch.randn(2, 32), painting, CAMERAS)
