"""Strangers' sounds, decoded elsewhere: see `decode_audio.py` and `decode_recording.py`."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.signatures import HEAD, RECORDED_TYPES, media_type_of
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

    Raises InputRejected that names the field: not a WAV, FLAC, Ogg (Vorbis, Opus), MP3, MP4 (AAC) or WebM (Opus),
    longer than so many `seconds` (TooLong), cut short, without sound, with samples that are no numbers, or broken.
    """
    with path.open("rb") as file:
        recorded = media_type_of(file.read(HEAD), RECORDED_TYPES)
    found = decoded("decode_recording" if recorded else "decode_audio", path, seconds, field, "a sound", PATIENCE)
    (rate,) = struct.unpack_from("<I", found)
    return Sound(np.frombuffer(found, "<f4", offset=HEADER), rate)
