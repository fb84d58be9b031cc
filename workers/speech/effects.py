"""What is done to speech after it is spoken: faster, higher, louder. Samples are mono float32 [N]."""

from __future__ import annotations

from math import gcd, log2

import numpy as np
from python_stretch.Signalsmith import Stretch
from scipy.signal import resample_poly

from workers.speech.voices.voice import Samples

SEED = 1  # the stretcher plays dice with phases; equal sounds shall stay equal


def shaped(samples: Samples, rate: int, speed: float, pitch: float) -> Samples:
    """`speed` times as fast, and `pitch` times as high; neither changes the other."""
    if speed == pitch == 1 or not len(samples):
        return samples
    stretch = Stretch(SEED)
    stretch.preset(1, rate)
    stretch.setTimeFactor(speed)
    stretch.setTransposeSemitones(12 * log2(pitch))
    return np.asarray(stretch.process(samples[np.newaxis]), np.float32)[0]


def amplified(samples: Samples, gain: float) -> tuple[Samples, float]:
    """The sound `gain` times as loud, or as loud as it can be without being cut; and the gain that it got."""
    peak = float(np.abs(samples).max(initial=0.0))
    fitting = min(gain, 1 / peak) if peak else gain
    return samples * np.float32(fitting), fitting


def resampled(samples: Samples, rate: int, wanted: int) -> Samples:
    """The same sound at `wanted` Hz."""
    if rate == wanted:
        return samples
    common = gcd(rate, wanted)
    return np.asarray(resample_poly(samples, wanted // common, rate // common), np.float32)
