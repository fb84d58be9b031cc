"""Attributes by name, with directions that were planted: what an edit moves, what it leaves, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tests.avatar.tiny import signature
from workers.avatar.aetherist import AetheristGenerator, StyleController, UnknownAttribute, find_latent_directions
from workers.avatar.aetherist.attributes import OPTIONS, VECTORS, attribute_space, save_attributes

PLANTED = F.normalize(torch.randn(3, 32, generator=torch.Generator().manual_seed(5)), dim=1)
few = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def samples() -> tuple[Tensor, dict[str, Tensor]]:
    """Latents [3000, 32], and how large each planted attribute is at them; hair has two axes."""
    latents = torch.randn(3000, 32, generator=torch.Generator().manual_seed(6))
    return latents, dict(zip(("age", "hair a", "hair b"), PLANTED @ latents.T, strict=True))


@pytest.fixture
def controller(samples: tuple[Tensor, dict[str, Tensor]], folder: Path) -> StyleController:
    latents, values = samples
    found = find_latent_directions(values, latents)
    members = {
        "hair": {"red": (values["hair a"] > 1).float(), "black": (values["hair b"] < -1).float()},
        "age": {"young": (values["age"] < -1).float(), "old": (values["age"] > 1).float()},
    }
    directions = {"hair": [found["hair a"], found["hair b"]], "age": [found["age"]]}
    save_attributes(folder, *attribute_space(directions, members, latents), about={"source": "planted"})
    return StyleController(AetheristGenerator.from_pretrained(folder))


def places(controller: StyleController, latents: Tensor) -> dict[str, Tensor]:
    """The coordinates [N, k] of each attribute, at the length that the mapping network gives all latents."""
    normal = F.normalize(latents, dim=-1) * latents.shape[-1] ** 0.5
    return {name: normal @ vectors.T for name, vectors in controller.attribute_vectors.items()}


def test_the_signatures_are_as_promised() -> None:
    assert signature(StyleController) == "(generator)"
    assert signature(StyleController.encode_attributes).startswith("(attributes, ")
    assert signature(StyleController.edit_attribute) == "(latent_code, attribute, direction, strength=1.0)"
    assert signature(StyleController.mix_attributes) == "(base_latent, attribute_edits)"


def test_planted_directions_and_options_come_back_from_the_files(controller: StyleController) -> None:
    vectors = controller.attribute_vectors
    assert {name: value.shape for name, value in vectors.items()} == {"hair": (2, 32), "age": (1, 32)}
    for found, planted in zip([*vectors["age"], *vectors["hair"]], PLANTED, strict=True):
        assert (found @ planted).item() > 0.99
    assert {name: list(options) for name, options in controller.options.items()} == {
        "hair": ["red", "black"],
        "age": ["young", "old"],
    }
    # The mean of a normal number above 1 is 1.525.
    assert controller.options["age"]["old"].item() == pytest.approx(1.525, abs=0.1)
    assert controller.options["hair"]["red"][0].item() == pytest.approx(1.525, abs=0.1)


def test_a_latent_with_attributes_has_their_coordinates(controller: StyleController) -> None:
    wanted = {"age": "old", "hair": "black"}
    latent = controller.encode_attributes(wanted, seed=1)
    assert latent.shape == (1, 32)
    found = places(controller, latent)
    for name, option in wanted.items():
        assert torch.allclose(found[name][0], controller.options[name][option], atol=1e-4)
    stronger = places(controller, controller.encode_attributes({"age": "old"}, seed=1, strength=1.3))
    assert stronger["age"].item() > 1.1 * found["age"].item()


def test_the_seed_decides_the_rest(controller: StyleController) -> None:
    one = controller.encode_attributes({"age": "old"}, seed=1)
    assert torch.equal(controller.encode_attributes({"age": "old"}, seed=1), one)
    assert not torch.allclose(controller.encode_attributes({"age": "old"}, seed=2), one, atol=0.1)
    drawn = [controller.encode_attributes({"age": "old"}) for _ in range(2)]
    assert not torch.equal(*drawn)
    plain = torch.randn(1, 32, generator=torch.Generator().manual_seed(3))
    assert torch.equal(controller.encode_attributes({}, seed=3), plain)


@few
@given(seed=st.integers(0, 2**32), strength=st.floats(-0.5, 1.5), option=st.sampled_from(["young", "old"]))
def test_an_edit_goes_its_share_of_the_way_and_leaves_other_attributes(
    controller: StyleController, seed: int, strength: float, option: str
) -> None:
    latents = torch.randn(4, 32, generator=torch.Generator().manual_seed(seed))
    edited = controller.edit_attribute(latents, "age", option, strength)
    before, after = places(controller, latents), places(controller, edited)
    target = controller.options["age"][option]
    assert torch.allclose(after["age"], before["age"] + strength * (target - before["age"]), atol=1e-3)
    assert torch.allclose(after["hair"], before["hair"], atol=1e-3)


def test_strength_0_changes_no_more_than_the_length(controller: StyleController) -> None:
    latent = torch.randn(1, 32)
    same = controller.edit_attribute(latent, "age", "old", strength=0)
    assert torch.allclose(F.normalize(same), F.normalize(latent), atol=1e-5)
    assert same.norm().item() == pytest.approx(32**0.5, rel=1e-4)


def test_a_single_latent_keeps_its_shape(controller: StyleController) -> None:
    latent = torch.randn(32)
    edited = controller.edit_attribute(latent, "hair", "red")
    assert edited.shape == (32,)
    assert torch.allclose(edited, controller.edit_attribute(latent[None], "hair", "red")[0], atol=1e-5)


def test_edits_can_be_mixed(controller: StyleController) -> None:
    latent = torch.randn(3, 32)
    edits: list[dict[str, Any]] = [
        {"attribute": "age", "direction": "young"},
        {"attribute": "hair", "direction": "red", "strength": 0.5},
    ]
    before, after = places(controller, latent), places(controller, controller.mix_attributes(latent, edits))
    assert torch.allclose(after["age"], controller.options["age"]["young"].expand(3, 1), atol=1e-3)
    assert torch.allclose(after["hair"], (before["hair"] + controller.options["hair"]["red"]) / 2, atol=1e-3)
    assert torch.equal(controller.mix_attributes(latent, []), latent)


def test_latents_are_made_where_the_generator_is(controller: StyleController) -> None:
    controller.generator.to("meta")  # a device that every machine has
    assert controller.encode_attributes({"age": "old"}).device.type == "meta"


def test_an_edit_is_seen(controller: StyleController) -> None:
    latent = torch.randn(1, 32)
    plain = controller.generator.generate_front_view(latent)
    edited = controller.generator.generate_front_view(controller.edit_attribute(latent, "age", "old"))
    assert (plain - edited).abs().mean() > 0.01


def test_what_the_model_lacks_is_refused_with_what_it_has(controller: StyleController) -> None:
    with pytest.raises(UnknownAttribute, match="unknown attribute 'beard'; this model has hair, age"):
        controller.encode_attributes({"beard": "long"})
    with pytest.raises(UnknownAttribute, match="unknown age 'ancient'; this model knows young, old"):
        controller.edit_attribute(torch.randn(1, 32), "age", "ancient")
    assert issubclass(UnknownAttribute, ValueError)


def test_a_model_without_attributes_says_so(generator: AetheristGenerator, folder: Path) -> None:
    for plain in (generator, AetheristGenerator.from_pretrained(folder)):
        controller = StyleController(plain)
        assert controller.attribute_vectors == {}
        with pytest.raises(UnknownAttribute, match=r"none: it has no attributes\.safetensors"):
            controller.edit_attribute(torch.randn(1, 32), "age", "old")


def test_provenance_is_kept_beside_the_options(controller: StyleController, folder: Path) -> None:
    assert (folder / VECTORS).exists()
    assert (folder / OPTIONS).read_text().startswith("source: planted\n")
