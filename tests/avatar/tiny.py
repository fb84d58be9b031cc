"""A true generator that draws in milliseconds, and how promised signatures are read."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import torch

from workers.avatar.aetherist import AetheristConfig, AetheristGenerator

# Its rays make a grid of 8 × 8. 13 features a point: no multiple of three.
TINY = AetheristConfig(
    latent_dim=32,
    triplane_dim=13,
    triplane_res=16,
    neural_renderer_layers=2,
    super_resolution_layers=2,
    resolution=32,
    coarse_samples=6,
    importance_samples=6,
)


def build(**changes: Any) -> AetheristGenerator:
    """The tiny generator with random weights, the same each time, in evaluation mode: a bumpy ball."""
    torch.manual_seed(0)
    generator = AetheristGenerator(dataclasses.replace(TINY, **changes)).eval()
    # What is added to the ball's distance stays small; or else it would be no distance, as a taught network's is.
    generator.state_dict()["renderer.decoder.layers.1.weight"][-1] *= 0.1
    return generator


def signature(function: Callable[..., Any]) -> str:
    """Names and defaults, such as "(radius=2.5, device=None)"."""
    parameters = inspect.signature(function).parameters.values()
    return str(inspect.Signature([p.replace(annotation=p.empty) for p in parameters if p.name != "self"]))
