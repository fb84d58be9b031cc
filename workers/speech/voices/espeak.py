"""The house voice: eSpeak NG. It needs no weights, speaks well over a hundred languages, and sounds like it."""

from __future__ import annotations

import numpy as np

from workers.speech.espeak import RATE, WORDS_PER_MINUTE, begin_anew, speak
from workers.speech.model import SpeechModel
from workers.speech.moods import MOODS
from workers.speech.voices.voice import Manner, Samples, Spoken, Voice

USUAL = 175  # words per minute
SLOWEST, FASTEST = WORDS_PER_MINUTE
TRIES, NEAR = 5, 0.02  # of paces; how near to the asked speed is near enough
VOLUME = 60  # per cent of eSpeak's own: room for twice as loud


class EspeakVoice(Voice):
    """It ends its sentences with pauses of its own."""

    rate, voice, language, engine = RATE, "default", "en-us", "eSpeak NG"
    longest, pause = 1000, 0.0

    def __init__(self, model: SpeechModel, device: str) -> None:
        self.begin(0)
        self.say("Hello.", self.settle(Manner()))  # the first call reads its files

    def begin(self, seed: int) -> None:
        """Breathy voices have noise in them."""
        self._seed = seed

    def say(self, text: str, manner: Manner) -> Spoken:
        """See the base. Its pauses do not shrink as its words do, so the pace that takes the asked time is sought."""
        plain = USUAL * MOODS[manner.emotion or "neutral"].tempo
        samples = self._say(text, manner, plain)
        if manner.speed == 1 or not len(samples):
            return Spoken(samples)
        usual, pace = len(samples), plain * manner.speed
        for _ in range(TRIES):
            samples = self._say(text, manner, pace)
            speed = usual / len(samples)
            if abs(speed / manner.speed - 1) < NEAR:
                return Spoken(samples, manner.speed)
            pace = min(max(pace * manner.speed / speed, SLOWEST), FASTEST)
        return Spoken(samples, speed)

    def _say(self, text: str, manner: Manner, pace: float) -> Samples:
        mood = MOODS[manner.emotion or "neutral"]
        begin_anew(self._seed)
        samples, _ = speak(
            text,
            f"{manner.language}" + (f"+{manner.voice}" if manner.voice != self.voice else ""),
            words_per_minute=round(pace),
            pitch=mood.pitch,
            pitch_range=mood.pitch_range,
            volume=round(VOLUME * mood.volume),
        )
        return np.divide(samples, 32768, dtype=np.float32)

    def close(self) -> None:
        """There is nothing to give back: the library lives as long as the process."""
