"""Bark: three transformers and a codec; its voices are presets, recorded beginnings that it goes on from."""

from __future__ import annotations

from dataclasses import replace

import torch
from transformers import BarkModel, BarkProcessor

from workers.runtime.runner import InputRejected
from workers.speech.loading import load_network, load_part, loading
from workers.speech.model import SpeechModel
from workers.speech.voices.voice import Manner, Spoken, Voice

NO_VOICE = "none"


class BarkVoice(Voice):
    """It says some 13 s in one piece; the preset also sets the language."""

    engine, longest, pause = "BarkModel", 180, 0.1

    def __init__(self, model: SpeechModel, device: str) -> None:
        with loading(model.name):
            self._processor = load_part(BarkProcessor, model.folder)
            self._network = load_network(BarkModel, model.folder, device)
        self.rate = int(self._network.generation_config.sample_rate)
        self._presets = sorted((self._processor.speaker_embeddings or {}).keys() - {"repo_or_path"})
        self.voice = str(model.card.get("default_voice") or next(iter(self._of("en") or self._presets), NO_VOICE))
        self.language = _language(self.voice)
        self._device = device

    def settle(self, manner: Manner) -> Manner:
        """A voice of the language that is asked for; raises InputRejected where both are, and differ."""
        language, voice = manner.language, manner.voice
        if language and voice and _language(voice) not in (None, language):
            raise InputRejected(f"language: the voice '{voice}' does not speak it.")
        if language and not voice and language != self.language:
            voice = next(iter(self._of(language)), None)
        voice = voice or self.voice
        return replace(manner, voice=voice, language=_language(voice) or language)

    def begin(self, seed: int) -> None:
        """Every token is drawn."""
        torch.manual_seed(seed)

    def say(self, text: str, manner: Manner) -> Spoken:
        """See the base; without a preset the seed draws a voice, another one for every sentence."""
        preset = manner.voice if manner.voice != NO_VOICE else None
        with torch.inference_mode():
            inputs = self._processor(text, voice_preset=preset).to(self._device)
            spoken = self._network.generate(**inputs)
        return Spoken(spoken.float().cpu().numpy().reshape(-1))

    def close(self) -> None:
        """Let go of the weights."""
        del self._network

    def _of(self, language: str) -> list[str]:
        """The presets that speak this language."""
        return [name for name in self._presets if _language(name) == language]


def _language(preset: str) -> str | None:
    """ "de" of "v2/de_speaker_3"; None where the name does not tell."""
    head, found, _ = preset.rpartition("/")[2].partition("_speaker")
    return head if found else None
