"""Recordings before they are heard: brought to a network's rate, and cut where nobody speaks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

import numpy as np
from scipy.signal import resample_poly

from workers.speech.hearing.heard import Samples

SILENCE = 10 ** (-66 / 20)  # of the full scale: below it there is the noise of 11-bit samples and nobody's voice
LISTEN = 0.03  # seconds over which loudness is measured


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of a recording that begins at sample `start`."""

    start: int
    samples: Samples


def resampled(samples: Samples, rate: int, wanted: int) -> Samples:
    """The samples [N] at another rate (Hz), filtered by a polyphase low-pass so that nothing folds back."""
    if rate == wanted:
        return samples
    factor = gcd(rate, wanted)
    return resample_poly(samples, wanted // factor, rate // factor).astype(np.float32)


def is_silent(samples: Samples) -> bool:
    """Whether nothing here could be speech: no sample is louder than SILENCE."""
    return not len(samples) or float(np.abs(samples).max()) < SILENCE


def windows(samples: Samples, rate: int, seconds: float) -> Iterator[Window]:
    """Pieces of at most so many seconds, cut at the quietest moment of their last third; silent ones are left out."""
    longest, hop = int(seconds * rate), max(1, int(LISTEN * rate))
    start = 0
    while start < len(samples):
        end = start + longest
        if end < len(samples):
            end = _quietest(samples, start + longest * 2 // 3, end, hop)
        piece = samples[start:end]
        if not is_silent(piece):
            yield Window(start, piece)
        start = end


def _quietest(samples: Samples, first: int, last: int, hop: int) -> int:
    """The middle of the quietest `hop` samples between the two places."""
    count = (last - first) // hop
    if count < 2:
        return last
    loudness = (samples[first : first + count * hop].reshape(count, hop) ** 2).mean(axis=1)
    return first + int(loudness.argmin()) * hop + hop // 2
