"""LoRAs of one pipeline: they stay resident, and each request switches on exactly those that it names."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline

from workers.runtime.runner import InputRejected

RESIDENT = 8


class Adapters:
    """The adapters that one pipeline has loaded, least recently used first."""

    def __init__(self, pipeline: StableDiffusionPipeline) -> None:
        self._pipeline = pipeline
        self._loaded: OrderedDict[str, str] = OrderedDict()  # a LoRA's name → PEFT's name for it
        self._count = 0

    def switch(self, wanted: Sequence[tuple[str, float]], files: dict[str, Path]) -> None:
        """Activate these (name, weight) pairs and no other; raises InputRejected for one that does not fit."""
        for name, _ in wanted:
            self._load(name, files, keep={name for name, _ in wanted})
        if wanted:
            self._pipeline.enable_lora()
            self._pipeline.set_adapters([self._loaded[name] for name, _ in wanted], [weight for _, weight in wanted])
        elif self._loaded:
            self._pipeline.disable_lora()

    def active(self) -> bool:
        """Whether LoRA layers really act in the denoiser now, as its layers tell."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        layers = [module for module in self._pipeline.unet.modules() if isinstance(module, BaseTunerLayer)]
        return any(not layer.disable_adapters and layer.active_adapters for layer in layers)

    def _load(self, name: str, files: dict[str, Path], keep: set[str]) -> None:
        if name in self._loaded:
            self._loaded.move_to_end(name)
            return
        if name not in files:
            raise InputRejected(f"Unknown LoRA '{name}'.")
        self._count += 1
        internal = f"lora_{self._count}"  # PEFT refuses dots and other signs in names
        try:
            self._pipeline.load_lora_weights(files[name].parent, weight_name=files[name].name, adapter_name=internal)
        except (RuntimeError, ValueError, KeyError) as error:
            self._pipeline.delete_adapters(internal)  # a misfit leaves an empty adapter behind
            raise InputRejected(f"LoRA '{name}' does not fit this model.") from error
        self._loaded[name] = internal
        self._evict(keep)

    def _evict(self, keep: set[str]) -> None:
        for name in [name for name in self._loaded if name not in keep][: max(0, len(self._loaded) - RESIDENT)]:
            self._pipeline.delete_adapters(self._loaded.pop(name))

    def status(self) -> dict[str, Any]:
        """Resident LoRAs by name."""
        return {"loras": list(self._loaded), "lora_applied": self.active()}
