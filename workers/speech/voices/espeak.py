"""The house voice: eSpeak NG. It needs no weights, speaks well over a hundred languages, and sounds like it."""

from __future__ import annotations

import numpy as np

from workers.speech.espeak import RATE, speak
from workers.speech.model import SpeechModel
from workers.speech.moods import MOODS
from workers.speech.voices.voice import Manner, Spoken

WORDS_PER_MINUTE = 175  # at speed 1
PACES = (88, 450)  # words per minute that eSpeak keeps to
VOLUME = 60  # per cent of eSpeak's own: room for twice as loud


class EspeakVoice:
    """See `workers.speech.voices.voice.Voice`; it ends its sentences with pauses of its own."""

    rate, voice, language, engine = RATE, "default", "en-us", "eSpeak NG"
    longest, pause = 1000, 0.0

    def __init__(self, model: SpeechModel, device: str) -> None:
        self.say("Hello.", Manner())  # the first call reads its files

    def say(self, text: str, manner: Manner) -> Spoken:
        """See `Voice`; the speed is the engine's own, within three per cent."""
        mood = MOODS[manner.emotion or "neutral"]
        plain = WORDS_PER_MINUTE * mood.tempo
        pace = min(max(round(plain * manner.speed), PACES[0]), PACES[1])
        samples, _ = speak(
            text,
            f"{manner.language or self.language}" + (f"+{manner.voice}" if manner.voice else ""),
            words_per_minute=pace,
            pitch=mood.pitch,
            pitch_range=mood.pitch_range,
            volume=round(VOLUME * mood.volume),
        )
        return Spoken(samples.astype(np.float32) / 32768, pace / plain)

    def close(self) -> None:
        """There is nothing to give back: the library lives as long as the process."""
