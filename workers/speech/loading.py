"""Loads networks from folders: from this disk only, safetensors only, and no code of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers.utils.logging import disable_progress_bar

from workers.runtime.devices import device_errors
from workers.runtime.runner import ModelMissing

disable_progress_bar()  # of every loaded file: a worker's log is no terminal

LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


@contextmanager
def loading(name: str) -> Iterator[None]:
    """A folder that does not load is a missing model; a full or broken device is told as such."""
    try:
        with device_errors():
            yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, ImportError) as error:
        reason = str(error).strip().split("\n", 1)[0][:200]
        raise ModelMissing(f"Model '{name}' does not load: {reason}") from error


def dtype_for(device: str) -> torch.dtype:
    """Half precision where the device computes in it."""
    return torch.float16 if device.startswith("cuda") else torch.float32


def load_network(kind: Any, folder: Path, device: str, **options: Any) -> Any:
    """A network of this class, ready to run on the device."""
    return kind.from_pretrained(folder, use_safetensors=True, **LOCAL, **options).to(device).eval()


def load_part(kind: Any, folder: Path) -> Any:
    """A tokenizer, feature extractor or processor."""
    return kind.from_pretrained(folder, **LOCAL)
