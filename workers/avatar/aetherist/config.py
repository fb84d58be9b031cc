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
        for field in dataclasses.fields(self):
            setattr(self, field.name, _checked(field.name, getattr(self, field.name), field.default))
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
        """Read what `save` wrote; absent fields keep their defaults. ValueError names an unknown field or bad value."""
        import yaml

        try:
            fields = yaml.safe_load(Path(path).read_text()) or {}
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is no plain YAML: {error}") from error
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
    "batch_size": 1,
    "num_views": 1,
    "coarse_samples": 2,
    "importance_samples": 0,
}


def _checked(name: str, value: Any, default: Any) -> Any:
    """The value in the type of its default; ValueError names the field that has another."""
    if isinstance(default, tuple):
        return _pair(name, value)
    if isinstance(default, float):
        if (number := _number(value)) is None or number < 0:
            raise ValueError(f"{name} must be a number and not negative, not {value!r}")
        return number
    if type(value) is not type(default):
        raise ValueError(f"{name} must be {'true or false' if isinstance(default, bool) else 'whole'}, not {value!r}")
    return value


def _pair(name: str, value: Any) -> tuple[float, float]:
    match [_number(one) for one in value] if isinstance(value, list | tuple) else []:
        case [float(low), float(high)] if low <= high:
            return low, high
    raise ValueError(f"{name} must be two numbers from low to high, not {value!r}")


def _number(value: Any) -> float | None:
    """A finite number, or None. YAML 1.1 reads 2e-4 as a word, so words that are numbers are taken too."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and not isinstance(value, bool) else None
