"""Speech as a file: WAV, FLAC, MP3 or Ogg Vorbis, by libsndfile."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile

from workers.speech.effects import resampled
from workers.speech.voices.voice import Samples

MEDIA_TYPES = {"wav": "audio/wav", "flac": "audio/flac", "mp3": "audio/mpeg", "ogg": "audio/ogg"}
SUBTYPES = {"mp3": "MPEG_LAYER_III", "ogg": "VORBIS"}
COMPRESSION = {"low": 0.9, "medium": 0.5, "high": 0.0}  # of the encoders that lose something; 0 loses least
BITS = {"low": "PCM_16", "medium": "PCM_16", "high": "PCM_24"}  # of those that lose nothing
MP3_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


@dataclass(frozen=True, slots=True)
class SoundFile:
    """A whole file; `rate` is its own, in Hz."""

    content: bytes
    media_type: str
    rate: int


def encoded(samples: Samples, rate: int, kind: str, quality: str) -> SoundFile:
    """The mono samples [N] as a file of this kind; low quality has half the rate."""
    wanted = rate // 2 if quality == "low" else rate
    if kind == "mp3":
        wanted = next((known for known in MP3_RATES if known >= wanted), MP3_RATES[-1])
    samples = np.clip(resampled(samples, rate, wanted), -1, 1)  # filtering may overshoot by a hair
    file = io.BytesIO()
    if kind in SUBTYPES:
        options = {"subtype": SUBTYPES[kind], "compression_level": COMPRESSION[quality]}
        if kind == "mp3":
            options["bitrate_mode"] = "VARIABLE"
    else:
        options = {"subtype": BITS[quality]}
    soundfile.write(file, samples, wanted, format=kind.upper(), **options)
    return SoundFile(file.getvalue(), MEDIA_TYPES[kind], wanted)
