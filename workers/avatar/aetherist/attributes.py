"""Attributes by name: directions in the space of latents that were estimated from labelled samples.

A model's folder may hold `attributes.safetensors` (for each attribute its unit directions, [k, latent_dim]) and
`attributes.yaml` (for each attribute its options as k coordinates, where they come from, and what they were measured to
do). `attribute_space` makes both from directions and labelled samples.
"""

from __future__ import annotations

import itertools
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
            [1, latent_dim], where the generator is.

        Raises:
            UnknownAttribute.
        """
        generator = torch.Generator().manual_seed(seed) if seed is not None else None
        latent = torch.randn(1, self.generator.config.latent_dim, generator=generator)
        latent = latent.to(self.generator.mapping.w_avg.device)
        return self.mix_attributes(
            latent,
            [{"attribute": name, "direction": option, "strength": strength} for name, option in attributes.items()],
        )

    def edit_attribute(self, latent_code: Tensor, attribute: str, direction: str, strength: float = 1.0) -> Tensor:
        """Move latents [N, latent_dim] (or [latent_dim]) towards an option; all other attributes stay.

        `direction` is the option's name. `strength` 0 changes nothing, 1 arrives at the option, beyond it exaggerates.
        Raises UnknownAttribute.
        """
        edit = {"attribute": attribute, "direction": direction, "strength": strength}
        return self.mix_attributes(latent_code, [edit])

    def mix_attributes(self, base_latent: Tensor, attribute_edits: Sequence[Mapping[str, Any]]) -> Tensor:
        """Several edits at once, as dicts with `attribute`, `direction` and optionally `strength` (default 1)."""
        if not attribute_edits:
            return base_latent
        edits = [
            (*self._find(edit["attribute"], edit["direction"]), float(edit.get("strength", 1.0)))
            for edit in attribute_edits
        ]
        latent = F.normalize(base_latent, dim=-1) * base_latent.shape[-1] ** 0.5
        vectors = torch.cat(list(self.attribute_vectors.values())).to(latent)
        now = latent @ vectors.T
        wanted = now.clone()
        for columns, target, strength in edits:
            wanted[..., columns] += strength * (target.to(latent) - now[..., columns])
        # Directions need not be orthogonal: the least move that brings these coordinates and leaves all others.
        dual = torch.linalg.pinv(vectors).T
        moved, rest = wanted @ dual, latent - now @ dual
        # The rest gives way in length, so that the coordinates are what was wanted after normalisation.
        room = (latent.shape[-1] - moved.square().sum(-1, keepdim=True)).clamp_min(1.0)
        return moved + rest * (room / rest.square().sum(-1, keepdim=True).clamp_min(1e-8)).sqrt()

    def _find(self, attribute: str, option: str) -> tuple[slice, Tensor]:
        """Which of the coordinates are the attribute's, and what the option's are."""
        if attribute not in self.options:
            known = ", ".join(self.options) or "none: it has no attributes.safetensors"
            raise UnknownAttribute(f"unknown attribute {attribute!r}; this model has {known}")
        if option not in self.options[attribute]:
            known = ", ".join(self.options[attribute])
            raise UnknownAttribute(f"unknown {attribute} {option!r}; this model knows {known}")
        start = sum(len(self.attribute_vectors[name]) for name in itertools.takewhile(attribute.__ne__, self.options))
        return slice(start, start + len(self.attribute_vectors[attribute])), self.options[attribute][option]

    def _load(self, folder: Path) -> None:
        import yaml
        from safetensors.torch import load_file

        vectors = load_file(folder / VECTORS)
        told = yaml.safe_load((folder / OPTIONS).read_text())["attributes"]
        for name, attribute in told.items():
            self.attribute_vectors[name] = vectors[name].float()
            self.options[name] = {option: torch.tensor(place) for option, place in attribute["options"].items()}


def attribute_space(
    directions: Mapping[str, Sequence[Tensor]], samples: Mapping[str, Mapping[str, Tensor]], latents: Tensor
) -> tuple[dict[str, Tensor], dict[str, dict[str, list[float]]]]:
    """Directions as `save_attributes` wants them, and where the options of each attribute lie on them.

    Args:
        directions: for each attribute its unit vectors [latent_dim] (of `find_latent_directions`).
        samples: for each attribute its options, each with how much every one of the N samples belongs to it, [N].
        latents: [N, latent_dim].

    Returns:
        Directions [k, latent_dim] and option coordinates [k] (the weighted mean of the samples) by attribute.
    """
    found = {name: torch.stack(list(vectors)) for name, vectors in directions.items()}
    normal = F.normalize(latents, dim=-1) * latents.shape[-1] ** 0.5
    options: dict[str, dict[str, list[float]]] = {}
    for name, vectors in found.items():
        places = normal @ vectors.T
        options[name] = {
            option: (weights[:, None] * places).sum(0).div(weights.sum()).tolist()
            for option, weights in samples[name].items()
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
