"""VITS, and with it the thousand languages of MMS: one network from letters to samples."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoTokenizer, VitsModel

from workers.speech.loading import load_network, load_part, loading
from workers.speech.model import SpeechModel
from workers.speech.voices.voice import Manner, Spoken, Voice


class VitsVoice(Voice):
    """Voices are the numbers of its speakers, where it has several."""

    engine, longest, pause = "VitsModel", 400, 0.25

    def __init__(self, model: SpeechModel, device: str) -> None:
        with loading(model.name):
            self._tokenizer = load_part(AutoTokenizer, model.folder)
            self._network = load_network(VitsModel, model.folder, device)
        self.rate = int(self._network.config.sampling_rate)
        self.voice = str(model.card.get("default_voice", "0"))
        self.language = (
            str(model.card["language"]) if "language" in model.card else getattr(self._tokenizer, "language", None)
        )
        self._speakers, self._device = int(self._network.config.num_speakers), device

    def begin(self, seed: int) -> None:
        """Rhythm and timbre are drawn, and only from torch's own generator."""
        torch.manual_seed(seed)

    def say(self, text: str, manner: Manner) -> Spoken:
        """See the base; no samples for a text that has none of the model's letters."""
        tokens = self._tokenizer(text, return_tensors="pt").to(self._device)
        if not tokens.input_ids.shape[1]:
            return Spoken(torch.zeros(0).numpy())
        speaker = int(manner.voice or self.voice) if self._speakers > 1 else None
        plain = self._network.config.speaking_rate
        with torch.inference_mode(), Rhythm(self._network) as rhythm:
            spoken = self._network(**tokens, speaker_id=speaker, speaking_rate=plain * manner.speed)
        speed = rhythm.frames(plain) / rhythm.frames(plain * manner.speed)
        return Spoken(spoken.waveform[0].cpu().numpy(), speed)

    def close(self) -> None:
        """Let go of the weights."""
        del self._network


class Rhythm:
    """Watches the durations that the network predicts. Each is rounded up to a whole frame, so that twice the rate is
    not quite half the time; how fast it really spoke follows from them.
    """

    def __init__(self, network: Any) -> None:
        self._predictor = network.duration_predictor

    def __enter__(self) -> Rhythm:
        self._hook = self._predictor.register_forward_hook(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _keep(self, _module: Any, _inputs: Any, log_durations: torch.Tensor) -> None:
        self._durations = torch.exp(log_durations)  # frames of every letter [1, 1, letters], at rate 1

    def frames(self, rate: float) -> float:
        """How long the text takes at this speaking rate, in frames."""
        return float(torch.ceil(self._durations / rate).sum().clamp_min(1))
