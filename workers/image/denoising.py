"""One picture: the call of the pipeline, with progress at every step and a preview of the unfinished latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline
from PIL import Image

from workers.image.picture import encode_preview
from workers.image.spec import GenerateInput

PREVIEW_LATENTS = 16  # longest side of the latents that a preview decodes
OnStep = Callable[[int, int, Callable[[], bytes]], None]


def denoise(
    pipeline: StableDiffusionPipeline, request: GenerateInput, seed: int, rescale: float, on_step: OnStep
) -> Image.Image:
    """The picture of `seed`, exactly width × height; `on_step` hears (step, steps, preview) and may raise to stop.

    The noise comes from a CPU generator, so it is the same on every device. A size that is no multiple of what the
    autoencoder can do is made a little larger and resized.
    """
    grid = pipeline.vae_scale_factor
    width, height = (-(-side // grid) * grid for side in (request.width, request.height))

    def stepped(pipe: Any, index: int, _: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        on_step(index + 1, pipe.num_timesteps, lambda: preview(pipe, tensors["latents"]))
        return tensors

    picture: Image.Image = pipeline(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        guidance_rescale=rescale,
        width=width,
        height=height,
        generator=torch.Generator("cpu").manual_seed(seed),
        callback_on_step_end=stepped,
    ).images[0]
    if picture.size != (request.width, request.height):
        picture = picture.resize((request.width, request.height), Image.Resampling.LANCZOS)
    return picture


@torch.no_grad()
def preview(pipeline: StableDiffusionPipeline, latents: torch.Tensor) -> bytes:
    """A small JPEG of unfinished latents [1, C, h, w], shrunk first so that decoding costs little."""
    shrink = max(1, -(-max(latents.shape[-2:]) // PREVIEW_LATENTS))
    small = F.avg_pool2d(latents, shrink) if shrink > 1 else latents
    decoded = pipeline.vae.decode(small / pipeline.vae.config.scaling_factor).sample
    return encode_preview(pipeline.image_processor.postprocess(decoded, output_type="pil")[0])
