"""Loading and running networks: from this disk only, and with torch's errors told as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers.utils.logging import disable_progress_bar

from workers.runtime.runner import DeviceFault, ModelMissing, OutOfMemory

disable_progress_bar()  # of every loaded file: a worker's log is no terminal


@contextmanager
def loading(name: str) -> Iterator[None]:
    """A folder that does not load is a missing model."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"The device has too little memory for model '{name}'.") from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, ImportError) as error:
        reason = str(error).strip().split("\n", 1)[0][:200]
        raise ModelMissing(f"Model '{name}' does not load: {reason}") from error


@contextmanager
def computing() -> Iterator[None]:
    """No gradients; a full or broken device is told as such."""
    try:
        with torch.inference_mode():
            yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise OutOfMemory("The device has too little memory for this request.") from error
    except torch.AcceleratorError as error:
        raise DeviceFault("The device failed.") from error


def load(kind: Any, folder: Path, device: str, **options: Any) -> Any:
    """A network or processor of this class, from the folder's safetensors, ready to run on the device."""
    return kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, **options).to(device).eval()


def load_text(kind: Any, folder: Path) -> Any:
    """A tokenizer or processor."""
    return kind.from_pretrained(folder, local_files_only=True)
