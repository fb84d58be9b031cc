"""The numbers of a model and of its training, as YAML."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class AetheristConfig:
    """Every number that the networks and the trainer need.

    `resolution` is the picture's side; rays are cast at `resolution / 2**super_resolution_layers`. `triplane_dim`
    counts the channels of all three planes together, so that a point has `triplane_dim` features. The last five fields
    are ours: samples per ray (coarse, then by importance), and the weights of the regularisers.
    """

    latent_dim: int = 512
    triplane_dim: int = 256
    triplane_res: int = 64
    neural_renderer_layers: int = 8
    super_resolution_layers: int = 2

    resolution: int = 512
    batch_size: int = 8
    num_views: int = 1

    camera_radius: float = 2.5
    elevation_range: tuple[float, float] = (-0.25, 0.25)
    azimuth_range: tuple[float, float] = (0.0, 2 * math.pi)

    learning_rate: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    weight_decay: float = 1e-4

    mixed_precision: bool = True
    gradient_checkpointing: bool = False
    compile_model: bool = False

    adversarial_weight: float = 1.0
    reconstruction_weight: float = 10.0
    perceptual_weight: float = 1.0
    identity_weight: float = 0.5

    coarse_samples: int = 24
    importance_samples: int = 24
    r1_penalty: float = 10.0
    gradient_penalty: float = 10.0
    path_length_penalty: float = 2.0

    def __post_init__(self) -> None:
        self.elevation_range = _pair(self.elevation_range)
        self.azimuth_range = _pair(self.azimuth_range)
        for name, lowest in _LOWEST.items():
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} must be at least {lowest}")
        if self.resolution % self.scale:
            raise ValueError(f"resolution must be a multiple of {self.scale} (two to the super_resolution_layers)")

    @property
    def scale(self) -> int:
        """How much larger the picture is than the grid of rays."""
        return int(2**self.super_resolution_layers)

    def save(self, path: str | Path) -> None:
        """Write every field as YAML; `load` gives back an equal object, to the last bit of each float."""
        import yaml

        fields = {
            key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(self).items()
        }
        Path(path).write_text(yaml.safe_dump(fields, sort_keys=False))

    @classmethod
    def load(cls, path: str | Path) -> AetheristConfig:
        """Read what `save` wrote; absent fields keep their defaults. ValueError names an unknown field."""
        import yaml

        fields = yaml.safe_load(Path(path).read_text()) or {}
        if not isinstance(fields, dict):
            raise ValueError(f"{path} is not a mapping")
        if unknown := set(fields) - {field.name for field in dataclasses.fields(cls)}:
            raise ValueError(f"unknown fields: {', '.join(sorted(map(str, unknown)))}")
        return cls(**fields)


_LOWEST = {
    "latent_dim": 1,
    "triplane_dim": 3,
    "triplane_res": 4,
    "neural_renderer_layers": 2,
    "super_resolution_layers": 0,
    "resolution": 8,
    "coarse_samples": 2,
    "importance_samples": 0,
}


def _pair(values: Any) -> tuple[float, float]:
    low, high = (float(value) for value in values)
    if low > high:
        raise ValueError("a range must run from low to high")
    return low, high
