"""Sounds of every kind that is taken, and some that are not."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 16_000
KINDS = {
    "wav": ("WAV", "PCM_16"),
    "wav of floats": ("WAV", "FLOAT"),
    "flac": ("FLAC", "PCM_16"),
    "ogg vorbis": ("OGG", "VORBIS"),
    "ogg opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
MEDIA_TYPES = {"wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg", "mp3": "audio/mpeg"}


def tone(seconds: float = 1.0, hertz: float = 440.0) -> NDArray[np.float32]:
    """A sine of half the full loudness [N]."""
    moments = np.arange(int(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * hertz * moments)).astype(np.float32)


def encoded(samples: NDArray[np.float32], kind: str = "wav", rate: int = RATE) -> bytes:
    """The samples [N] or [N, channels] as a file."""
    container, codec = KINDS[kind]
    file = io.BytesIO()
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(file, "w", rate, channels, codec, format=container) as sound:
        sound.title = "a secret title"
        sound.write(samples)
    return file.getvalue()


def hours_of_silence(hours: float) -> bytes:
    """A small FLAC that is long."""
    rate = 8000
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, 1, "PCM_16", format="FLAC") as sound:
        for block in _blocks(int(hours * 3600 * rate)):
            sound.write(block)
    return file.getvalue()


def _blocks(frames: int) -> Iterator[NDArray[np.int16]]:
    block = np.zeros(1 << 20, np.int16)
    for start in range(0, frames, len(block)):
        yield block[: frames - start]


def with_total(flac: bytes, frames: int) -> bytes:
    """The FLAC with another number of frames in its header; 0 means that it is not known."""
    fields = int.from_bytes(flac[18:26], "big") >> 36 << 36 | frames
    return flac[:18] + fields.to_bytes(8, "big") + flac[26:]


def with_data_size(wav: bytes, size: int) -> bytes:
    """The WAV with another number of bytes in its header."""
    place = wav.index(b"data") + 4
    return wav[:place] + struct.pack("<I", size) + wav[place + 4 :]


def wav_header(rate: int = RATE, channels: int = 1, samples: bytes = b"\0\0" * 100) -> bytes:
    """A WAV of 16-bit samples that says what it is told to."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, rate * 2 * channels, 2 * channels, 16)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(samples)) + samples
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def other_container(container: str) -> bytes:
    """The tone in a container that libsndfile reads and we do not."""
    file = io.BytesIO()
    soundfile.write(file, tone(), RATE, "PCM_16", format=container)
    return file.getvalue()


def old_codec() -> bytes:
    """A WAV of the GSM of 1991."""
    file = io.BytesIO()
    soundfile.write(file, tone(), RATE, "GSM610", format="WAV")
    return file.getvalue()
