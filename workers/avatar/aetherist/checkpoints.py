"""A model is a folder: `config.yaml` and safetensors. Pickles are never read."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

CONFIG, GENERATOR = "config.yaml", "generator.safetensors"


def save_network(network: nn.Module, path: Path, dtype: torch.dtype | None = None) -> None:
    """Write a network's weights; `dtype` (such as torch.float16) is what floating point weights are stored as."""
    from safetensors.torch import save_file

    weights = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    save_file({name: _stored(value, dtype) for name, value in weights.items()}, path)


def load_network(network: nn.Module, path: Path) -> None:
    """Fill a network in its own precision; ValueError if the file is no safetensors or has other weights."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        network.load_state_dict(load_file(path), strict=True)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} does not fit: {error}") from error


def save_generator(generator: nn.Module, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write a generator's folder as `AetheristGenerator.from_pretrained` reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    generator.config.save(folder / CONFIG)  # type: ignore[union-attr, operator]
    save_network(generator, folder / GENERATOR, dtype)


def _stored(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    return value.to(dtype).contiguous() if dtype and value.is_floating_point() else value.contiguous()
