"""Loads a folder with transformers: nothing is fetched, no code of the folder runs, no weight is made up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from transformers.utils import logging

from workers.predict.catalog import PredictModel
from workers.runtime.runner import ModelMissing

logging.set_verbosity_error()  # its warnings quote inputs
logging.disable_default_handler()  # the process's own formats and redacts
logging.enable_propagation()
logging.disable_progress_bar()

LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
BROKEN = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError)


def load_network(kind: Any, model: PredictModel, device: str, may_lack: Sequence[str] = ()) -> Any:
    """An AutoModelFor…'s network, ready to compute; raises ModelMissing.

    Weights that the folder lacks would be random, so that a base model served as a classifier would answer noise: they
    are refused, but for the parts that `may_lack` names, which the task does not use. On a GPU the weights keep their
    own type, on the CPU they are float32.
    """
    dtype = "auto" if device.startswith("cuda") else torch.float32
    try:
        network, found = kind.from_pretrained(
            model.path, dtype=dtype, use_safetensors=True, output_loading_info=True, **LOCAL
        )
    except BROKEN as error:
        raise ModelMissing(f"Model '{model.name}' does not load: {error}") from error
    wrong = {*found["missing_keys"], *(str(entry) for entry in found["mismatched_keys"])}
    if lacking := sorted(key for key in wrong if not key.startswith(tuple(may_lack))):
        raise ModelMissing(f"Model '{model.name}' lacks weights for {model.task}: {', '.join(lacking[:3])}.")
    return network.to(device).eval()


def load_part(kind: Any, model: PredictModel) -> Any:
    """An AutoTokenizer or AutoImageProcessor; raises ModelMissing."""
    try:
        return kind.from_pretrained(model.path, **LOCAL)
    except BROKEN as error:
        raise ModelMissing(f"Model '{model.name}' does not load: {error}") from error
