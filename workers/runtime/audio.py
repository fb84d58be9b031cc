"""Strangers' sounds, decoded elsewhere: see `decode_audio.py`."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workers.runtime.decoding import decoded

PATIENCE = 60  # seconds
HEADER = struct.calcsize("<I")


@dataclass(frozen=True, slots=True)
class Sound:
    """Mono `samples` [N], float32, finite, as loud as in the file (mostly within ±1), at `rate` Hz."""

    samples: NDArray[np.float32]
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


def read_audio(path: Path, field: str, seconds: float) -> Sound:
    """The sound of the file, its channels mixed into one, without tags, at the file's own rate.

    Raises InputRejected that names the field: not a WAV, FLAC, Ogg (Vorbis, Opus) or MP3, longer than so many
    `seconds`, cut short, without sound, with samples that are no numbers, or broken.
    """
    found = decoded("decode_audio", path, seconds, field, "a sound", PATIENCE)
    (rate,) = struct.unpack_from("<I", found)
    return Sound(np.frombuffer(found, "<f4", offset=HEADER), rate)
