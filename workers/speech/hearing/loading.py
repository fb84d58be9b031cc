"""Loads networks from folders: safetensors only, no code of theirs, nothing fetched."""

from __future__ import annotations

from typing import Any

import torch

from workers.runtime.runner import ModelMissing
from workers.speech.model import SpeechModel


def dtype_for(device: str) -> torch.dtype:
    """Half precision where the device computes in it."""
    return torch.float16 if device.startswith("cuda") else torch.float32


def load(kind: Any, model: SpeechModel, **settings: Any) -> Any:
    """`kind.from_pretrained` of the model's folder; raises ModelMissing if it does not load."""
    if "dtype" in settings:  # a network, and no tokenizer
        settings |= {"use_safetensors": True}
    try:
        return kind.from_pretrained(model.path, local_files_only=True, trust_remote_code=False, **settings)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise ModelMissing(f"Model '{model.name}' does not load: {error}") from error
