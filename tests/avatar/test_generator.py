"""The generator: what callers were promised, files that give back the very same network, and torch alone."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.avatar.tiny import TINY, build, signature
from workers.avatar.aetherist import AetheristConfig, AetheristGenerator, CameraConfig, generate_camera_poses
from workers.avatar.aetherist.checkpoints import CONFIG, GENERATOR, save_generator

FRONT = CameraConfig.create_front_view()


@pytest.fixture
def latents() -> Tensor:
    return torch.randn(2, 32, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize(
    ("function", "promised"),
    [
        (AetheristGenerator, "(config, pretrained_path=None)"),
        (AetheristGenerator.from_pretrained, "(path)"),
        (AetheristGenerator.forward, "(latent_codes, camera_params, truncation_psi=1.0, noise_mode='const')"),
        (AetheristGenerator.generate_front_view, "(latent_codes)"),
        (AetheristGenerator.generate_multi_view, "(latent_codes, num_views=8, radius=2.5)"),
        (AetheristGenerator.interpolate, "(latent_a, latent_b, steps=10)"),
    ],
)
def test_the_signatures_are_as_promised(function: Callable[..., Any], promised: str) -> None:
    assert signature(function) == promised


# Pictures


@pytest.mark.parametrize(("layers", "resolution"), [(0, 16), (1, 32), (2, 64)])
def test_pictures_have_the_config_s_size(latents: Tensor, layers: int, resolution: int) -> None:
    generator = build(super_resolution_layers=layers, resolution=resolution)
    pictures = generator(latents, generate_camera_poses(2))
    assert pictures.shape == (2, 3, resolution, resolution)
    assert torch.isfinite(pictures).all()


def test_latents_and_cameras_both_count(generator: AetheristGenerator, latents: Tensor) -> None:
    cameras = generate_camera_poses(2)
    pictures = generator(latents, cameras)
    assert torch.equal(generator(latents, cameras), pictures)
    assert (generator(latents.flip(0), cameras) - pictures).abs().mean() > 0.01
    assert (generator(latents, cameras.flip(0)) - pictures).abs().mean() > 0.01


@pytest.mark.parametrize("gradients", [True, False])
def test_a_picture_does_not_depend_on_its_neighbours(
    generator: AetheristGenerator, latents: Tensor, gradients: bool
) -> None:
    # The second head is far away and small: most rays that meet the first one pass by it.
    cameras = torch.cat([FRONT, CameraConfig.create_orbit(radius=5, num_views=1)])
    with torch.set_grad_enabled(gradients):
        alone = torch.cat([generator(latents[n : n + 1], cameras[n : n + 1]) for n in range(2)])
        assert torch.allclose(generator(latents, cameras), alone, atol=1e-4)


def test_truncation_0_is_one_head_for_all_and_noise_can_be_chosen(
    generator: AetheristGenerator, latents: Tensor
) -> None:
    average = generator(latents, FRONT.expand(2, -1), truncation_psi=0)
    assert torch.allclose(average[0], average[1], atol=1e-5)
    whole = generator.generate_front_view(latents)
    assert not torch.equal(generator(latents, FRONT.expand(2, -1), noise_mode="none"), whole)
    assert torch.equal(generator(latents, FRONT.expand(2, -1), 1.0, "const"), whole)


def test_one_head_can_be_seen_from_many_cameras(generator: AetheristGenerator, latents: Tensor) -> None:
    cameras = generate_camera_poses(3)
    one_for_all = generator(latents[:1], cameras)
    assert torch.allclose(one_for_all, generator(latents[:1].expand(3, -1), cameras), atol=1e-5)


@pytest.mark.parametrize("part", ["image", "raw", "depth", "opacity"])
def test_every_part_of_a_view_reaches_the_latent(generator: AetheristGenerator, latents: Tensor, part: str) -> None:
    latents.requires_grad_()
    view = generator.view(generator.planes(latents), generate_camera_poses(2))
    seen = getattr(view, part)
    seen[torch.isfinite(seen)].square().sum().backward()
    assert latents.grad is not None
    assert (latents.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize(("side", "rays"), [(64, 16), (37, 10), (8, 4), (1, 4)])
def test_a_view_can_have_any_resolution(generator: AetheristGenerator, latents: Tensor, side: int, rays: int) -> None:
    view = generator.view(generator.planes(latents), generate_camera_poses(2), side)
    assert view.image.shape == (2, 3, side, side)
    assert view.raw.shape == (2, 3, rays, rays)
    assert view.depth.shape == view.opacity.shape == (2, rays, rays)
    assert view.raw.abs().max() <= 1 + 1e-5
    assert 0 <= view.opacity.min() <= view.opacity.max() <= 1
    seen = torch.isfinite(view.depth)
    assert torch.equal(seen, view.opacity > 1e-3)
    assert ((view.depth[seen] > 2.5 - 3**0.5) & (view.depth[seen] < 2.5 + 3**0.5)).all()  # within the box


def test_a_larger_view_shows_the_same_head(generator: AetheristGenerator, latents: Tensor) -> None:
    planes = generator.planes(latents)
    small, large = (generator.view(planes, FRONT.expand(2, -1), side).opacity for side in (32, 128))
    halved = torch.nn.functional.avg_pool2d(large, 4)
    assert (halved - small).abs().mean() < 0.1


def test_the_field_is_what_the_views_show(generator: AetheristGenerator, latents: Tensor) -> None:
    planes = generator.planes(latents)
    colour, distance = generator.field(planes, torch.rand(2, 50, 3) * 2 - 1)
    assert colour.shape == (2, 50, 3)
    assert colour.abs().max() <= 1
    assert distance.shape == (2, 50)
    # On the axis of the front camera: opaque where a point of it lies within the surface.
    axis = torch.stack([torch.zeros(200), torch.zeros(200), torch.linspace(-1, 1, 200)], -1)
    inside = generator.field(planes, axis.expand(2, -1, -1))[1].amin(1) < -0.1
    opaque = generator.view(planes, FRONT.expand(2, -1), 124).opacity[:, 15, 15] > 0.5  # the middle of 31 × 31 rays
    assert torch.equal(inside, opaque)


def test_an_orbit_starts_at_the_front(generator: AetheristGenerator, latents: Tensor) -> None:
    views = generator.generate_multi_view(latents)
    assert [view.shape for view in views] == [(2, 3, 32, 32)] * 8
    assert torch.allclose(views[0], generator.generate_front_view(latents), atol=1e-5)
    assert all((view - views[0]).abs().mean() > 0.01 for view in views[1:])
    near = generator.generate_multi_view(latents, num_views=3, radius=1.8)
    assert len(near) == 3
    assert (near[0] - views[0]).abs().mean() > 0.01


@pytest.mark.parametrize("batched", [True, False])
def test_an_interpolation_ends_at_both_front_views(
    generator: AetheristGenerator, latents: Tensor, batched: bool
) -> None:
    a, b = latents.split(1) if batched else latents
    pictures = generator.interpolate(a, b, steps=4)
    assert [picture.shape for picture in pictures] == [(1, 3, 32, 32)] * 4
    assert torch.equal(pictures[0], generator.generate_front_view(latents[:1]))
    assert torch.equal(pictures[-1], generator.generate_front_view(latents[1:]))
    assert len(generator.interpolate(a, b)) == 10


def test_mixed_precision_takes_every_argument(generator: AetheristGenerator, latents: Tensor) -> None:
    generator.mapping.w_avg.normal_()
    plain = generator(latents, generate_camera_poses(2), truncation_psi=0.7)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = generator(latents, generate_camera_poses(2), truncation_psi=0.7)
    assert (mixed.float() - plain).abs().mean() < 0.1


def test_what_does_not_fit_is_refused(generator: AetheristGenerator, latents: Tensor) -> None:
    with pytest.raises(ValueError, match=r"latent_codes must be \[B, 32\], not \[32\]"):
        generator(latents[0], FRONT)
    with pytest.raises(ValueError, match=r"cameras must be \[N, 25\]"):
        generator(latents, FRONT[0])
    for cameras in (FRONT, generate_camera_poses(3)):
        with pytest.raises(ValueError, match="cameras for 2 heads"):
            generator(latents, cameras)
    with pytest.raises(ValueError, match="noise_mode"):
        generator(latents, generate_camera_poses(2), noise_mode="loud")
    with pytest.raises(ValueError, match="resolution must be at least 1"):
        generator.view(generator.planes(latents), generate_camera_poses(2), 0)


# Files


def test_a_saved_generator_comes_back_to_the_last_bit(latents: Tensor, tmp_path: Path) -> None:
    generator = build()
    generator.train()(latents, generate_camera_poses(2))  # moves the average
    save_generator(generator.eval(), tmp_path / "new" / "model")
    torch.manual_seed(7)
    found = AetheristGenerator.from_pretrained(tmp_path / "new" / "model")
    assert not found.training
    assert found.config == TINY
    assert found.state_dict().keys() == generator.state_dict().keys()
    assert all(torch.equal(found.state_dict()[name], value) for name, value in generator.state_dict().items())
    cameras = generate_camera_poses(2)
    assert torch.equal(found(latents, cameras, 0.5), generator(latents, cameras, 0.5))


def test_half_precision_is_for_the_file_only(generator: AetheristGenerator, folder: Path, latents: Tensor) -> None:
    size = (folder / GENERATOR).stat().st_size
    save_generator(generator, folder, torch.float16)
    assert (folder / GENERATOR).stat().st_size < 0.6 * size
    found = AetheristGenerator(TINY, pretrained_path=str(folder)).eval()
    assert {p.dtype for p in found.parameters()} == {torch.float32}
    assert torch.allclose(found.mapping(latents), generator.mapping(latents), atol=0.01)


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_a_pickle_is_refused_unread(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    torch.save({"config": None, "generator": Trap(mark)}, folder / GENERATOR)
    with pytest.raises(ValueError, match="does not fit"):
        AetheristGenerator.from_pretrained(folder)
    assert not mark.exists()
    torch.load(io.BytesIO((folder / GENERATOR).read_bytes()), weights_only=False)
    assert mark.exists()  # the trap was a true one


def test_yaml_executes_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / CONFIG).write_text(f"!!python/object/apply:pathlib.Path.touch [{tmp_path / 'executed'}]")
    with pytest.raises(ValueError, match="no plain YAML"):
        AetheristGenerator.from_pretrained(folder)
    assert not (tmp_path / "executed").exists()


def test_other_files_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        AetheristGenerator.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(OSError, match="Not a directory"):
        AetheristGenerator.from_pretrained(folder / GENERATOR)
    with pytest.raises(ValueError, match="does not fit"):
        AetheristGenerator(AetheristConfig(), folder)
    (folder / GENERATOR).unlink()
    with pytest.raises(FileNotFoundError):
        AetheristGenerator.from_pretrained(folder)


ALONE = """
import sys
others = "PIL yaml safetensors tqdm scipy diffusers transformers fastapi sqlalchemy celery pydantic".split()
sys.modules.update(dict.fromkeys(others))  # importing any of these fails
import torch
from workers.avatar.aetherist import AetheristConfig, AetheristGenerator, CameraConfig
config = AetheristConfig(8, 6, 8, 2, 1, 16, coarse_samples=2, importance_samples=2)
print(*AetheristGenerator(config)(torch.randn(1, 8), CameraConfig.create_front_view()).shape)
print(*[name for name in sys.modules if name.startswith(("shared", "services", "workers.runtime", "workers.families"))])
"""


def test_torch_is_all_that_it_takes() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 3 16 16\n\n"
