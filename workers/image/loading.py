"""Loads a Stable Diffusion folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from workers.image.catalog import ModelFolder
from workers.runtime.devices import device_errors
from workers.runtime.runner import ModelMissing

for library in (diffusers_logging, transformers_logging):
    library.set_verbosity_error()  # their warnings quote prompts
    library.disable_default_handler()  # the process's own formats and redacts
    library.enable_propagation()
transformers_logging.disable_progress_bar()
diffusers_logging.disable_progress_bar()


def load_pipeline(folder: ModelFolder, device: str) -> StableDiffusionPipeline:
    """The pipeline on `device`: fp16 on a GPU, fp32 elsewhere; raises ModelMissing, OutOfMemory."""
    dtype = torch.float16 if device.startswith("cuda") else torch.float32
    try:
        with device_errors():
            pipeline = StableDiffusionPipeline.from_pretrained(
                folder.path,
                variant=folder.variant,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            ).to(device)
    except (OSError, ValueError, KeyError) as error:
        raise ModelMissing(f"Model '{folder.name}' does not load: {error}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def model_sha256(folder: ModelFolder) -> str:
    """Hash of the denoiser's weights: names the model whatever its folder is called."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder.path, "unet").glob("*.safetensors")):
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
