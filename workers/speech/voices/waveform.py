"""Any newer network that transformers lists under `AutoModelForTextToWaveform`, through its own pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import pipeline

from workers.speech.loading import loading
from workers.speech.model import SpeechModel
from workers.speech.voices.voice import Manner, Spoken, Voice


class WaveformVoice(Voice):
    """It has the one voice that the network was made with."""

    longest, pause = 300, 0.2

    def __init__(self, model: SpeechModel, device: str) -> None:
        with loading(model.name):
            options = {"use_safetensors": True}  # nothing is fetched: this package's __init__ sets HF_HUB_OFFLINE
            self._pipeline = pipeline("text-to-speech", str(model.folder), device=device, model_kwargs=options)
        self.rate, self.engine = int(self._pipeline.sampling_rate), type(self._pipeline.model).__name__
        self.voice = "default"
        self.language = str(model.card["language"]) if "language" in model.card else None
        self._takes_language = self.engine.startswith("SeamlessM4T")

    def begin(self, seed: int) -> None:
        """Most of them draw their tokens."""
        torch.manual_seed(seed)

    def say(self, text: str, manner: Manner) -> Spoken:
        """See the base."""
        options: dict[str, Any] = {}
        language = manner.language or self.language
        if self._takes_language and language:
            options["tgt_lang"] = language
        with torch.inference_mode():
            spoken = self._pipeline(text, forward_params=options)
        return Spoken(np.asarray(spoken["audio"], np.float32).reshape(-1))

    def close(self) -> None:
        """Let go of the weights."""
        del self._pipeline
