"""The networks one by one, in the order in which data flows; test_training.py has the discriminator's tests."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.avatar.tiny import build
from workers.avatar.aetherist import CameraConfig
from workers.avatar.aetherist.networks import renderer
from workers.avatar.aetherist.networks.decoder import FEATURES, Decoder
from workers.avatar.aetherist.networks.layers import EqualLinear
from workers.avatar.aetherist.networks.mapping import MappingNetwork
from workers.avatar.aetherist.networks.renderer import Rendering, VolumeRenderer, cross_box
from workers.avatar.aetherist.networks.super_resolution import SuperResolution
from workers.avatar.aetherist.networks.synthesis import TriplaneSynthesis, features_at

# Mapping


def test_different_latents_give_clearly_different_styles() -> None:
    w = MappingNetwork(32).eval()(torch.randn(64, 32))
    assert w.std(0).mean() > 0.3
    assert w.square().mean().sqrt().item() == pytest.approx(1, abs=0.5)


def test_a_slow_layer_lets_as_much_through_as_a_fast_one() -> None:
    x = torch.randn(256, 64)
    for speed in (1, 0.01):
        assert EqualLinear(64, 64, lr_multiplier=speed)(x).std().item() == pytest.approx(1, abs=0.1)


def test_the_length_of_a_latent_does_not_count() -> None:
    mapping, z = MappingNetwork(32).eval(), torch.randn(2, 32)
    assert torch.allclose(mapping(z), mapping(5 * z), atol=1e-5)


def test_the_average_moves_in_training_only_and_is_saved() -> None:
    mapping, z = MappingNetwork(32), torch.randn(8, 32)
    mapping.eval()(z)
    assert not mapping.w_avg.any()
    w = mapping.train()(z)
    assert torch.allclose(mapping.w_avg, 0.002 * w.mean(0), atol=1e-6)
    assert torch.equal(mapping.state_dict()["w_avg"], mapping.w_avg)


@pytest.mark.parametrize("type_", [torch.float32, torch.bfloat16])
def test_truncation_goes_from_the_average_to_the_latent_s_own_style(type_: torch.dtype) -> None:
    mapping, z = MappingNetwork(32).eval(), torch.randn(2, 32)
    mapping.w_avg.normal_()
    with torch.autocast("cpu", type_, enabled=type_ != torch.float32):
        w, none, half = mapping(z), mapping(z, 0), mapping(z, 0.5)
    assert torch.allclose(none, mapping.w_avg.to(type_).expand(2, -1))
    assert torch.allclose(half, (none + w) / 2, atol=0.02 if type_ == torch.bfloat16 else 1e-6)


# Planes


@pytest.mark.parametrize(("channels", "resolution"), [(12, 16), (13, 16), (11, 8), (6, 6), (3, 5)])
def test_three_different_planes_have_the_channels_in_all(channels: int, resolution: int) -> None:
    planes = TriplaneSynthesis(channels, resolution, 32)(torch.randn(2, 32))
    assert planes.shape == (2, channels, resolution, resolution)
    xy, xz, zy = planes.tensor_split(3, 1)
    fewest = channels // 3
    assert all((a[:, :fewest] - b[:, :fewest]).abs().mean() > 0.01 for a, b in ((xy, xz), (xz, zy), (zy, xy)))
    assert (planes[0] - planes[1]).abs().mean() > 0.01
    points = torch.rand(2, 7, 3)
    assert features_at(planes, points).shape == (2, 7, channels)


def test_blocks_may_be_left_out_for_smaller_planes() -> None:
    synthesis = TriplaneSynthesis(12, 16, 32)
    assert synthesis(torch.randn(1, 32), skipped=1).shape == (1, 12, 8, 8)


@pytest.mark.parametrize(("channel", "place"), [(0, "xy*"), (5, "x*y"), (9, "*yx")])
def test_a_planted_value_is_read_at_its_place_of_its_plane(channel: int, place: str) -> None:
    """13 channels are 5 of xy, 4 of xz, 4 of zy; `place` says which of x, y, z is the column (x) and the row (y)."""
    planes = torch.zeros(1, 13, 8, 8)
    planes[0, channel, 2, 5] = 7  # row 2, column 5
    numbers = {"x": (2 * 5 + 1) / 8 - 1, "y": (2 * 2 + 1) / 8 - 1, "*": 0.123}
    here = torch.tensor([numbers[letter] for letter in place])
    points = torch.stack([here, here + 0.5 * torch.tensor([letter == "*" for letter in place]), -here])[None]
    found = features_at(planes, points)[0]
    assert found[:2, channel].tolist() == pytest.approx([7, 7], abs=1e-4)
    assert found[:, [n for n in range(13) if n != channel]].abs().max() == 0
    assert found[2].abs().max() == 0


def test_checkpointing_changes_neither_planes_nor_gradients() -> None:
    found = []
    for checkpointing in (False, True):
        generator, z = build(gradient_checkpointing=checkpointing), torch.ones(1, 32).cumsum(1)
        planes = generator.planes(z)
        planes.square().sum().backward()
        found.append([planes, *(p.grad for p in generator.synthesis.parameters())])
    for plain, spared in zip(*found, strict=True):
        assert torch.equal(plain, spared)


# Rendering


class Ball(Decoder):
    """A red ball of radius 0.5 in place of what the features say."""

    def __init__(self, sharpness: float = 0.005) -> None:
        super().__init__(3, 2)
        self.log_beta.data.fill_(math.log(sharpness))

    def forward(self, features: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        red = F.one_hot(torch.tensor(0), FEATURES).float()
        return red.expand(*points.shape[:-1], FEATURES), points.norm(dim=-1) - 0.5


def look(coarse: int, importance: int, x: Tensor) -> Rendering:
    """What parallel rays from z = 2.5 see of the ball at height 0."""
    origins = torch.stack([x, torch.zeros_like(x), torch.full_like(x, 2.5)], -1)[None]
    along = torch.tensor([0.0, 0, -1]).expand_as(origins)
    rendered: Rendering = VolumeRenderer(Ball(), coarse, importance).eval()(torch.zeros(1, 3, 4, 4), origins, along)
    return rendered


ON = torch.linspace(-0.45, 0.45, 31)
TRUE = 2.5 - (0.25 - ON.square()).sqrt()


def test_a_ball_has_its_depth_colour_and_opacity() -> None:
    seen = look(48, 48, ON)
    assert (seen.depth - TRUE).abs().max() < 0.04
    assert torch.allclose(seen.opacity, torch.ones(1, 31), atol=1e-3)
    assert torch.allclose(seen.features[..., :3], torch.tensor([1.0, 0, 0]).expand(1, 31, 3), atol=1e-3)


@pytest.mark.parametrize("x", [0.6, 0.99, 1.5])  # beside the ball, at the box's edge, outside the box
def test_beside_the_ball_there_is_only_the_white_background(x: float) -> None:
    seen = look(48, 48, torch.tensor([x, -x]))
    assert seen.opacity.abs().max() < 1e-3
    assert torch.isinf(seen.depth).all()
    assert torch.allclose(seen.features[..., :3], torch.ones(1, 2, 3), atol=1e-3)


def test_importance_samples_sharpen_the_depth() -> None:
    errors = [(look(16, more, ON).depth - TRUE).abs().mean().item() for more in (0, 8, 32)]
    assert errors[0] > 2 * errors[1] > 3 * errors[2]


def test_what_is_saved_without_gradients_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rays are drawn in parts then, and those that pass by everything are left early."""
    across = torch.linspace(-1.2, 1.2, 61)
    whole = look(16, 16, across)
    monkeypatch.setattr(renderer, "CHUNK", 10)
    with torch.no_grad():
        parts = look(16, 16, across)
    for part in ("features", "depth", "opacity"):
        assert torch.allclose(getattr(parts, part), getattr(whole, part), atol=1e-3)


def test_rays_enter_and_leave_the_box_where_they_should() -> None:
    origins = torch.tensor([[0, 0, 3.0], [0, 0, 0], [0, 2, 3.0]])
    near, far = cross_box(origins, torch.tensor([0.0, 0, -1]).expand(3, 3))
    assert near[:2].tolist() == [2, 0]
    assert far[:2].tolist() == [4, 1]
    assert far[2] < near[2]


def test_what_features_say_is_added_to_a_ball() -> None:
    decoder, points = Decoder(13, 2), torch.rand(2, 50, 3) * 2 - 1
    _, distance = decoder(torch.zeros(2, 50, 13), points)
    assert torch.allclose(distance, points.norm(dim=-1) - 0.6)
    appearance, _ = decoder(torch.randn(2, 50, 13), points)
    assert appearance.shape == (2, 50, FEATURES)
    assert appearance.abs().max() <= 1
    assert decoder.density(torch.tensor([-1.0, 0, 1])).tolist() == pytest.approx([20, 10, 0], abs=1e-3)


# Super-resolution


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_each_stage_doubles_the_side(layers: int) -> None:
    side = 8 * 2**layers
    assert SuperResolution(layers, 8)(torch.randn(2, FEATURES, 8, 8)).shape == (2, 3, side, side)


def test_each_noise_is_what_its_name_says() -> None:
    network, features = SuperResolution(1, 8), torch.randn(2, FEATURES, 8, 8)
    const, none, random, other = (network(features, mode) for mode in ("const", "none", "random", "random"))
    assert torch.equal(network(features, "const"), const)
    assert torch.equal(network(features, "none"), none)
    assert all((a - b).abs().mean() > 1e-3 for a, b in ((const, none), (random, none), (const, random)))
    assert (random - other).abs().mean() > 1e-3
    # The fixed noise is no weight: a new network has the same.
    assert torch.equal(*(dict(each.named_buffers())["stages.0.noise"] for each in (network, SuperResolution(1, 8))))
    assert not [name for name in network.state_dict() if name.endswith("noise")]
    with pytest.raises(ValueError, match="noise_mode must be const, random or none"):
        network(features, "loud")


def test_a_generator_in_training_jitters_its_samples() -> None:
    generator, front = build(), CameraConfig.create_front_view()
    planes = generator.planes(torch.ones(1, 32))
    generator.train()
    assert not torch.equal(generator.view(planes, front).raw, generator.view(planes, front).raw)
    generator.eval()
    assert torch.equal(generator.view(planes, front).raw, generator.view(planes, front).raw)
