"""Whose voice it is, as numbers: an x-vector of 512, from the request, its file, or the model's own voices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from workers.runtime.runner import InputRejected, Job
from workers.speech.spec import SPEAKER, SynthesizeInput
from workers.speech.voices.voice import Samples


class NotASpeaker(ValueError):
    """The file holds no speaker embedding; the text says why."""


def read_speaker(request: SynthesizeInput, job: Job) -> Samples | None:
    """The speaker [512] that the request gives, or None; raises InputRejected."""
    if request.speaker_embedding is not None:
        return np.asarray(request.speaker_embedding, np.float32)
    if request.speaker_file is None:
        return None
    try:
        return load_speaker(job.inputs["speaker_file"])
    except NotASpeaker as error:
        raise InputRejected(f"speaker_file: {error}.") from error


def load_speaker(path: Path) -> Samples:
    """The one tensor [512] or [1, 512] of this safetensors file; raises NotASpeaker."""
    try:
        tensors = list(load_file(path).values())
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise NotASpeaker("it is no readable safetensors file") from error
    if len(tensors) != 1 or tensors[0].size != SPEAKER:
        raise NotASpeaker(f"it must hold one tensor of {SPEAKER} numbers")
    speaker = np.asarray(tensors[0], np.float32).reshape(SPEAKER)
    if not np.isfinite(speaker).all() or not speaker.any():
        raise NotASpeaker("its numbers must be finite, and not all zero")
    return speaker
