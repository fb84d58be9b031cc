"""SpeechT5 and its HiFi-GAN: whose voice it is, an x-vector of 512 numbers says."""

from __future__ import annotations

import numpy as np
import torch
from transformers import SpeechT5ForTextToSpeech, SpeechT5HifiGan, SpeechT5Tokenizer

from workers.foreign_code import foreign_code
from workers.runtime.runner import InputRejected, ModelMissing
from workers.speech.describing import NEUTRAL_VOICE, find_vocoder
from workers.speech.loading import load_network, load_part, loading
from workers.speech.model import SpeechModel
from workers.speech.speakers import NotASpeaker, load_speaker
from workers.speech.spec import SPEAKER
from workers.speech.voices.voice import Manner, Samples, Spoken, Voice


class SpeechT5Voice(Voice):
    """Voices are files `voices/NAME.safetensors`; the first is its own, and without any the neutral one."""

    engine, longest, pause = "SpeechT5ForTextToSpeech", 400, 0.25

    def __init__(self, model: SpeechModel, device: str) -> None:
        vocoder = find_vocoder(model)
        if vocoder is None:
            raise ModelMissing(f"Model '{model.name}' has no vocoder: put a HiFi-GAN into its folder vocoder/.")
        if problem := foreign_code(vocoder):  # it may lie beside the folder that the catalog has looked at
            raise ModelMissing(f"Model '{model.name}' has a vocoder that is not to be trusted: {problem}.")
        with loading(model.name):
            self._tokenizer = load_part(SpeechT5Tokenizer, model.folder)
            self._network = load_network(SpeechT5ForTextToSpeech, model.folder, device)
            self._vocoder = load_network(SpeechT5HifiGan, vocoder, device)
        self.rate = int(self._vocoder.config.sampling_rate)
        self._folder, self._device = model.folder, device
        names = sorted(path.stem for path in model.folder.glob("voices/*.safetensors"))
        self.voice = str(model.card.get("default_voice") or next(iter(names), NEUTRAL_VOICE))
        self.language = str(model.card["language"]) if "language" in model.card else None

    def begin(self, seed: int) -> None:
        """Its decoder drops units at random even when it speaks."""
        torch.manual_seed(seed)

    def say(self, text: str, manner: Manner) -> Spoken:
        """See the base; raises InputRejected."""
        speaker = torch.from_numpy(self._speaker(manner)).unsqueeze(0)
        with torch.inference_mode():
            tokens = self._tokenizer(text, return_tensors="pt").input_ids
            spoken = self._network.generate_speech(
                tokens.to(self._device), speaker.to(self._device), vocoder=self._vocoder
            )
        return Spoken(spoken.cpu().numpy().reshape(-1))

    def close(self) -> None:
        """Let go of the weights."""
        del self._network, self._vocoder

    def _speaker(self, manner: Manner) -> Samples:
        if manner.speaker is not None:
            return manner.speaker
        name = manner.voice or self.voice
        path = self._folder / "voices" / f"{name}.safetensors"
        if name == NEUTRAL_VOICE and not path.exists():
            return np.zeros(SPEAKER, np.float32)
        try:
            return load_speaker(path)
        except NotASpeaker as error:
            raise InputRejected(f"voice: '{name}' is no speaker embedding: {error}.") from error
