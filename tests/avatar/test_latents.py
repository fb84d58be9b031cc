"""Latents: how they are drawn, joined and normalised, and that a planted direction is found again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tests.avatar.tiny import signature
from workers.avatar.aetherist import (
    find_latent_directions,
    interpolate_latents,
    normalize_latent_codes,
    sample_latent_codes,
)

few = settings(max_examples=30, deadline=None)


@st.composite
def latents(draw: st.DrawFn) -> Tensor:
    """Two latents of one shape, [2, D] or [2, N, D]."""
    shape = draw(st.sampled_from([(2, 2), (2, 512), (2, 3, 16)]))
    return torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 2**32))))


def test_the_signatures_are_as_promised() -> None:
    assert signature(sample_latent_codes) == "(num_samples, latent_dim=512, truncation_psi=1.0, device=None)"
    assert signature(interpolate_latents) == "(latent_a, latent_b, steps=10, mode='slerp')"
    assert signature(normalize_latent_codes) == "(latent_codes, method='clip')"
    assert signature(find_latent_directions) == "(attribute_vectors, latent_codes)"


def test_samples_have_the_wanted_deviation_and_follow_the_seed() -> None:
    assert sample_latent_codes(4).shape == (4, 512)
    torch.manual_seed(3)
    found = sample_latent_codes(1000, 16, truncation_psi=0.5)
    assert found.std().item() == pytest.approx(0.5, abs=0.02)
    torch.manual_seed(3)
    assert torch.equal(sample_latent_codes(1000, 16, truncation_psi=0.5), found)
    with pytest.raises(ValueError, match="truncation_psi"):
        sample_latent_codes(1, truncation_psi=1.5)


@few
@given(latents(), st.integers(2, 12), st.sampled_from(["slerp", "linear", "lerp"]))
def test_both_ends_are_exact(ends: Tensor, steps: int, mode: str) -> None:
    path = interpolate_latents(ends[0], ends[1], steps, mode)
    assert path.shape == (steps, *ends.shape[1:])
    assert torch.equal(path[[0, -1]], ends)


@few
@given(latents())
def test_slerp_keeps_the_length_and_turns_evenly(ends: Tensor) -> None:
    a, b = F.normalize(ends, dim=-1) * 5
    path = interpolate_latents(a, b, 7)
    assert torch.allclose(path.norm(dim=-1), torch.tensor(5.0), rtol=1e-3)
    turns = (path[1:] - path[:-1]).norm(dim=-1)  # of equal angles the chords are equal
    assert torch.allclose(turns, turns.mean(0).expand_as(turns), rtol=0.02, atol=0.01)


def test_lengths_between_are_interpolated() -> None:
    middle = interpolate_latents(torch.tensor([2.0, 0]), torch.tensor([0, 4.0]), 3)[1]
    assert torch.allclose(middle, 3 * torch.tensor([0.5, 0.5]).sqrt())
    straight = interpolate_latents(torch.tensor([2.0, 0]), torch.tensor([0, 4.0]), 3, "linear")[1]
    assert straight.tolist() == [1, 2]


@pytest.mark.parametrize("factor", [1, -1, 0])
def test_equal_opposite_and_empty_latents_have_a_way_too(factor: int) -> None:
    a = torch.randn(8)
    assert torch.isfinite(interpolate_latents(a, factor * a)).all()


def test_a_bad_interpolation_is_refused() -> None:
    a = torch.randn(8)
    with pytest.raises(ValueError, match="steps must be at least 2"):
        interpolate_latents(a, a, 1)
    with pytest.raises(ValueError, match="mode must be"):
        interpolate_latents(a, a, mode="cubic")
    with pytest.raises(ValueError, match="one shape"):
        interpolate_latents(a, a[None])


def test_each_way_to_normalise() -> None:
    codes = torch.tensor([[4.0, -5, 0.5, 0.5]])
    assert normalize_latent_codes(codes).tolist() == [[3, -3, 0.5, 0.5]]
    assert normalize_latent_codes(codes, "sphere").norm().item() == pytest.approx(2)
    standard = normalize_latent_codes(codes, "standardize")
    assert standard.mean().item() == pytest.approx(0, abs=1e-6)
    assert standard.std().item() == pytest.approx(1)
    with pytest.raises(ValueError, match="clip, sphere or standardize"):
        normalize_latent_codes(codes, "other")


def test_planted_directions_are_found() -> None:
    codes = torch.randn(2000, 16)
    smile, age = F.normalize(torch.randn(2, 16), dim=1)
    noise = torch.randn(2000)
    found = find_latent_directions({"smile": codes @ smile + noise, "age": 40 - 9 * (codes @ age)}, codes)
    assert found["smile"].norm().item() == pytest.approx(1)
    assert (found["smile"] @ smile).item() > 0.98
    assert (found["age"] @ -age).item() > 0.999


def test_labels_that_say_nothing_are_refused_by_name() -> None:
    codes = torch.randn(10, 4)
    with pytest.raises(ValueError, match="age does not vary"):
        find_latent_directions({"age": torch.ones(10)}, codes)
    with pytest.raises(ValueError, match=r"age: \[9\] values for 10 latents"):
        find_latent_directions({"age": torch.ones(9)}, codes)
