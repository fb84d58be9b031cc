"""The parametric head, which is the truth that the house model is measured by."""

from __future__ import annotations

import torch

from workers.avatar.aetherist import CameraConfig
from workers.avatar.aetherist.networks.rays import sample_rays
from workers.avatar.house import heads


def latents(count: int) -> torch.Tensor:
    return torch.randn(count, heads.LATENT_DIM, generator=torch.Generator().manual_seed(0))


def test_parameters_are_uniform_and_depend_on_the_direction_of_the_latent_alone() -> None:
    found = heads.parameters(latents(4000))
    assert found.shape == (4000, len(heads.NAMES))
    share = (found < 0.5).float().mean(0)
    loose = heads.NAMES.index("hair_light")  # older heads lean to lighter hair
    share[loose] = 0.5
    assert (share - 0.5).abs().max() < 0.05
    assert torch.allclose(heads.parameters(3 * latents(5)), heads.parameters(latents(5)), atol=1e-5)


def test_truncation_draws_towards_the_middle() -> None:
    near, far = (heads.parameters(latents(100), psi).sub(0.5).abs().mean() for psi in (0.3, 1.0))
    assert near < 0.5 * far
    assert (heads.parameters(latents(3), 0.0) - 0.5).abs().max() < 0.2


def test_the_depth_lies_on_the_surface_and_the_mask_says_where() -> None:
    params, cameras = heads.parameters(latents(2)), CameraConfig.create_orbit(num_views=2)
    seen = heads.draw_views(params, cameras, 48)
    origins, directions = sample_rays(cameras, 48)
    for n in range(2):
        mask = seen.mask[n].flatten()
        assert 0.1 < mask.float().mean() < 0.9
        assert torch.equal(mask, torch.isfinite(seen.depth[n].flatten()))
        points = origins[n][mask] + seen.depth[n].flatten()[mask, None] * directions[n][mask]
        distance = heads.Heads(params[n : n + 1]).distance(points[None])
        assert distance.abs().max() < 0.01
    assert (seen.colour[~seen.mask] == heads.BACKGROUND).all()


def test_labels_are_thirds_and_named_colours() -> None:
    params = heads.parameters(latents(300))
    labels = heads.labels(params)
    assert {name: set(found) for name, found in labels.items() if name in heads.CLASSES} == {
        name: set(classes) for name, classes in heads.CLASSES.items()
    }
    assert set(labels["hair_color"]) <= set(heads.HAIR_COLOURS)
    youngest, oldest = params[:, heads.NAMES.index("age")].argmin(), params[:, heads.NAMES.index("age")].argmax()
    assert (labels["age"][youngest], labels["age"][oldest]) == ("young", "elderly")


def test_a_smile_changes_the_mouth() -> None:
    camera = CameraConfig.create_front_view()
    pictures = []
    for value in (0.1, 0.9):
        params = heads.parameters(latents(1))
        params[:, heads.NAMES.index("expression")] = value
        pictures.append(heads.draw_views(params, camera, 64).colour[0])
    change = (pictures[0] - pictures[1]).abs().mean(-1)
    assert change[42:52, 20:44].mean() > 5 * change[:16].mean()
