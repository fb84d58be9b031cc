"""Attributes by name: directions in the space of latents that were estimated from labelled samples.

A model's folder may hold `attributes.safetensors` (for each attribute its directions, [k, latent_dim], orthonormal over
all attributes) and `attributes.yaml` (for each attribute its options as k coordinates, where they come from, and what
they were measured to do). `attribute_space` makes both from directions and labelled samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from workers.avatar.aetherist.generator import AetheristGenerator

OPTIONS, VECTORS = "attributes.yaml", "attributes.safetensors"


class UnknownAttribute(ValueError):
    """The model has no such attribute, or the attribute no such option; the text lists what there is."""


class StyleController:
    """Finds latents with wanted attributes, and edits latents.

    `attribute_vectors` holds the directions [k, latent_dim] of each attribute, `options` the coordinates [k] of each
    option. Latents are taken at the length √latent_dim, which is what the mapping network makes of any length.
    """

    def __init__(self, generator: AetheristGenerator) -> None:
        self.generator = generator
        self.attribute_vectors: dict[str, Tensor] = {}
        self.options: dict[str, dict[str, Tensor]] = {}
        if generator.folder is not None and (generator.folder / VECTORS).exists():
            self._load(generator.folder)

    def encode_attributes(
        self, attributes: Mapping[str, str], seed: int | None = None, strength: float = 1.0
    ) -> Tensor:
        """A random latent with these attributes.

        Args:
            attributes: option by attribute, such as {"age": "young"}. seed: of everything else; None draws one.
            strength: 1 is a typical member of the option, more is more pronounced.

        Returns:
            [1, latent_dim].

        Raises:
            UnknownAttribute.
        """
        generator = torch.Generator().manual_seed(seed) if seed is not None else None
        latent = torch.randn(1, self.generator.config.latent_dim, generator=generator)
        return self.mix_attributes(
            latent,
            [{"attribute": name, "direction": option, "strength": strength} for name, option in attributes.items()],
        )

    def edit_attribute(self, latent_code: Tensor, attribute: str, direction: str, strength: float = 1.0) -> Tensor:
        """Move latents [N, latent_dim] (or [latent_dim]) towards an option; everything orthogonal stays.

        `direction` is the option's name. `strength` 0 changes nothing, 1 arrives at the option, beyond it exaggerates.
        Raises UnknownAttribute.
        """
        edit = {"attribute": attribute, "direction": direction, "strength": strength}
        return self.mix_attributes(latent_code, [edit])

    def mix_attributes(self, base_latent: Tensor, attribute_edits: Sequence[Mapping[str, Any]]) -> Tensor:
        """Several edits at once, as dicts with `attribute`, `direction` and optionally `strength` (default 1)."""
        if not attribute_edits:
            return base_latent
        device = base_latent.device
        latent = F.normalize(base_latent, dim=-1) * base_latent.shape[-1] ** 0.5
        moved, held = torch.zeros_like(latent), torch.zeros_like(latent)
        for edit in attribute_edits:
            vectors, target = self._find(edit["attribute"], edit["direction"])
            vectors, target = vectors.to(device), target.to(device)
            now = latent @ vectors.T
            wanted = now + float(edit.get("strength", 1.0)) * (target - now)
            moved, held = moved + wanted @ vectors, held + now @ vectors
        # The rest gives way in length, so that the coordinates are what was wanted after normalisation.
        rest = latent - held
        room = (latent.shape[-1] - moved.square().sum(-1, keepdim=True)).clamp_min(1.0)
        return moved + rest * (room / rest.square().sum(-1, keepdim=True).clamp_min(1e-8)).sqrt()

    def _find(self, attribute: str, option: str) -> tuple[Tensor, Tensor]:
        if attribute not in self.options:
            known = ", ".join(self.options) or "none: it has no attributes.safetensors"
            raise UnknownAttribute(f"unknown attribute {attribute!r}; this model has {known}")
        if option not in self.options[attribute]:
            known = ", ".join(self.options[attribute])
            raise UnknownAttribute(f"unknown {attribute} {option!r}; this model knows {known}")
        return self.attribute_vectors[attribute], self.options[attribute][option]

    def _load(self, folder: Path) -> None:
        import yaml
        from safetensors.torch import load_file

        self.attribute_vectors = {name: value.float() for name, value in load_file(folder / VECTORS).items()}
        told = yaml.safe_load((folder / OPTIONS).read_text())["attributes"]
        for name, attribute in told.items():
            self.options[name] = {option: torch.tensor(place) for option, place in attribute["options"].items()}


def attribute_space(
    directions: Mapping[str, Sequence[Tensor]], samples: Mapping[str, Sequence[str]], latents: Tensor
) -> tuple[dict[str, Tensor], dict[str, dict[str, list[float]]]]:
    """Orthonormal directions, and where the options of each attribute lie on them.

    Args:
        directions: for each attribute its unit vectors [latent_dim] (of `find_latent_directions`).
        samples: for each attribute the option that each of the N samples was seen to have.
        latents: [N, latent_dim].

    Returns:
        Directions [k, latent_dim] and option coordinates (the mean of the option's samples) by attribute.
    """
    names = [(name, n) for name, vectors in directions.items() for n in range(len(vectors))]
    stacked = torch.stack([directions[name][n] for name, n in names])
    u, _, vh = torch.linalg.svd(stacked, full_matrices=False)
    nearest = u @ vh  # the orthonormal set nearest to the estimates (Löwdin 1950)
    found = {name: nearest[[row for row, (owner, _) in enumerate(names) if owner == name]] for name in directions}
    normal = F.normalize(latents, dim=-1) * latents.shape[-1] ** 0.5
    options: dict[str, dict[str, list[float]]] = {}
    for name, vectors in found.items():
        places, seen = normal @ vectors.T, samples[name]
        options[name] = {
            option: places[[n for n, label in enumerate(seen) if label == option]].mean(0).tolist()
            for option in sorted(set(seen))
        }
    return found, options


def save_attributes(
    folder: Path, vectors: Mapping[str, Tensor], options: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
    """Write both files; `about` (provenance, measured effects) goes into the YAML as it is."""
    import yaml
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in vectors.items()}, folder / VECTORS)
    told = {**about, "attributes": {name: {"options": dict(places)} for name, places in options.items()}}
    (folder / OPTIONS).write_text(yaml.safe_dump(told, sort_keys=False))
