"""The image family's runner: one resident Stable Diffusion pipeline with its LoRAs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch
from pydantic import BaseModel

from workers.image.adapters import Adapters
from workers.image.catalog import find_adapters, find_models
from workers.image.denoising import denoise
from workers.image.loading import load_pipeline, model_sha256
from workers.image.picture import encode_png
from workers.image.schedulers import make_scheduler, scheduler_name
from workers.image.spec import BatchInput, GenerateInput
from workers.runtime.devices import device_errors
from workers.runtime.runner import InputRejected, Job, ModelMissing

VERSIONS = {name: version(name) for name in ("torch", "diffusers", "transformers")}


class ImageRunner:
    """See `workers.runtime.runner.Runner`."""

    def setup(self, device: str, model: str) -> None:
        """Load the named folder; raises ModelMissing."""
        folder = find_models().get(model)
        if folder is None:
            raise ModelMissing(f"Model '{model}' is not on this worker's disk.")
        self._model, self._device = model, device
        self._pipeline = load_pipeline(folder, device)
        self._own_scheduler = self._pipeline.scheduler
        self._adapters = Adapters(self._pipeline)
        self._sha256 = model_sha256(folder)
        # A schedule with zero terminal SNR overexposes under guidance unless it is rescaled (Lin et al. 2023, §3.4).
        zero_snr = bool(self._own_scheduler.config.get("rescale_betas_zero_snr"))
        self._rescale = float(folder.card.get("guidance_rescale", 0.7 if zero_snr else 0.0))

    def run(self, request: BaseModel, job: Job) -> dict[str, Any]:
        """`image.generate` and `image.generate_batch`."""
        if isinstance(request, BatchInput):
            return self._run_batch(request.items, job)
        assert isinstance(request, GenerateInput)
        return self._generate(request, job, "", 0, request.num_images)

    def status(self) -> dict[str, Any]:
        """What is loaded, as /models/status tells it."""
        return {
            "loaded": True,
            "lora_available": bool(find_adapters()),
            "device": self._device,
            "model_info": {
                "base_model": self._model,
                **self._adapters.status(),
                "torch_version": torch.__version__,
                "cuda_available": torch.cuda.is_available(),
            },
        }

    def close(self) -> None:
        """Let go of the weights."""
        del self._pipeline, self._adapters, self._own_scheduler
        if self._device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _run_batch(self, items: Sequence[GenerateInput], job: Job) -> dict[str, Any]:
        total, done, results = sum(item.num_images for item in items), 0, []
        for number, item in enumerate(items):
            try:
                results.append({"success": True, "result": self._generate(item, job, f"item_{number}/", done, total)})
            except InputRejected as error:
                results.append({"success": False, "error": str(error)})
            done += item.num_images
        return {"items": results}

    def _generate(self, request: GenerateInput, job: Job, folder: str, before: int, total: int) -> dict[str, Any]:
        """The pictures of one request; `before` of the job's `total` pictures are done already."""
        if request.model != self._model:
            raise InputRejected(f"All items of a batch must use one model; this job runs '{self._model}'.")
        began, seed = time.monotonic(), request.seed or 0
        self._adapters.switch([(lora.name, lora.weight) for lora in request.loras], find_adapters())
        info = self._info(request)
        names = []
        for number in range(request.num_images):
            self._pipeline.scheduler = make_scheduler(self._own_scheduler, request.scheduler)

            def on_step(step: int, steps: int, preview: Any, pictures: int = before + number) -> None:
                job.progress(pictures * steps + step, total * steps, preview)

            with device_errors():
                picture = denoise(self._pipeline, request, seed + number, self._rescale, on_step)
            names.append(f"{folder}image_{number}.png")
            job.save(names[-1], encode_png(picture, self._parameters(request, info, seed + number)), "image/png")
        return {
            "files": names,
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "generation_time": round(time.monotonic() - began, 4),
            "model_info": info,
        }

    def _info(self, request: GenerateInput) -> dict[str, Any]:
        seed = request.seed or 0
        return {
            "base_model": self._model,
            "model": self._model,
            "model_sha256": self._sha256,
            "lora_applied": self._adapters.active(),
            "loras": [lora.model_dump() for lora in request.loras],
            "device": self._device,
            "inference_steps": request.num_inference_steps,
            "guidance_scale": request.guidance_scale,
            "scheduler": request.scheduler or scheduler_name(self._own_scheduler),
            "resolution": f"{request.width}x{request.height}",
            "seed": seed,
            "seeds": [seed + number for number in range(request.num_images)],
        }

    def _parameters(self, request: GenerateInput, info: dict[str, Any], seed: int) -> dict[str, Any]:
        asked = request.model_dump(exclude={"priority", "preview", "num_images"})
        made = {key: info[key] for key in ("model_sha256", "scheduler", "lora_applied")}
        return {**asked, **made, "seed": seed, "guidance_rescale": self._rescale, "versions": VERSIONS}
