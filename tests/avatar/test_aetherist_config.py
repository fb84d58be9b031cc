"""The config: the promised defaults, a round trip to the last bit, and nothing wrong gets in."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.avatar.aetherist import AetheristConfig

PROMISED = {
    "latent_dim": 512,
    "triplane_dim": 256,
    "triplane_res": 64,
    "neural_renderer_layers": 8,
    "super_resolution_layers": 2,
    "resolution": 512,
    "batch_size": 8,
    "num_views": 1,
    "camera_radius": 2.5,
    "elevation_range": (-0.25, 0.25),
    "azimuth_range": (0, 2 * math.pi),
    "learning_rate": 2e-4,
    "beta1": 0.5,
    "beta2": 0.999,
    "weight_decay": 1e-4,
    "mixed_precision": True,
    "gradient_checkpointing": False,
    "compile_model": False,
    "adversarial_weight": 1,
    "reconstruction_weight": 10,
    "perceptual_weight": 1,
    "identity_weight": 0.5,
}
numbers = st.floats(0, allow_infinity=False)
ranges = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2).map(sorted).map(tuple)
configs = st.builds(
    AetheristConfig,
    latent_dim=st.integers(1, 4096),
    resolution=st.integers(2, 512).map(lambda n: 4 * n),
    elevation_range=ranges,
    azimuth_range=ranges,
    mixed_precision=st.booleans(),
    **{name: numbers for name in ("learning_rate", "beta1", "weight_decay", "identity_weight", "r1_penalty")},
)


def test_the_defaults_are_as_promised() -> None:
    fields = dataclasses.asdict(AetheristConfig())
    assert {name: fields[name] for name in PROMISED} == PROMISED
    assert list(fields)[: len(PROMISED)] == list(PROMISED)  # ours come after, for those who pass by place


@settings(max_examples=50, deadline=None)
@given(config=configs)
def test_yaml_gives_back_an_equal_config(tmp_path_factory: pytest.TempPathFactory, config: AetheristConfig) -> None:
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    config.save(path)
    assert AetheristConfig.load(path) == config


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def from_text(text: str) -> AetheristConfig:
        (tmp_path / "config.yaml").write_text(text)
        return AetheristConfig.load(tmp_path / "config.yaml")

    return from_text


def test_a_file_by_hand_may_be_short(load: Any) -> None:
    assert load("") == AetheristConfig()
    # YAML reads 2e-4 as a word, and 10 as a whole number.
    assert load("learning_rate: 2e-4\nr1_penalty: 10\nazimuth_range: [0, 1]") == AetheristConfig(
        learning_rate=2e-4, r1_penalty=10.0, azimuth_range=(0.0, 1.0)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latent: 3\nrsolution: 4", "unknown fields: latent, rsolution"),
        ("- 1", "is not a mapping"),
        ("latent_dim: [", "is no plain YAML"),
        ("!!python/object/apply:os.getcwd []", "is no plain YAML"),
        ("latent_dim: many", "latent_dim must be whole, not 'many'"),
        ("latent_dim: 2.5", "latent_dim must be whole, not 2.5"),
        ("latent_dim:", "latent_dim must be whole, not None"),
        ("latent_dim: 0", "latent_dim must be at least 1"),
        ("batch_size: 0", "batch_size must be at least 1"),
        ("triplane_dim: 2", "triplane_dim must be at least 3"),
        ("resolution: 510", "resolution must be a multiple of 4"),
        ("learning_rate: fast", "learning_rate must be a number and not negative, not 'fast'"),
        ("learning_rate: .nan", "learning_rate must be a number and not negative, not nan"),
        ("identity_weight: -1", "identity_weight must be a number and not negative, not -1"),
        ("compile_model: 1", "compile_model must be true or false, not 1"),
        ("elevation_range: 3", "elevation_range must be two numbers from low to high, not 3"),
        ("elevation_range: [1, 0]", "elevation_range must be two numbers from low to high"),
        ("azimuth_range: [0, 1, 2]", "azimuth_range must be two numbers from low to high"),
    ],
)
def test_what_is_wrong_is_refused_by_name(load: Any, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(text)


def test_the_picture_is_two_to_the_layers_larger_than_the_grid() -> None:
    assert [AetheristConfig(super_resolution_layers=n).scale for n in (0, 1, 3)] == [1, 2, 8]
