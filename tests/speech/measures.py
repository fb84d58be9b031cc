"""What tests measure of a sound."""

from __future__ import annotations

import numpy as np
from scipy.signal import correlate, find_peaks


def rms(samples: np.ndarray) -> float:
    """How loud it is on average."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def fundamental(samples: np.ndarray, rate: int, low: float = 60, high: float = 500) -> float:
    """The median frequency of its voiced frames (Hz), by autocorrelation."""
    width, found = int(0.06 * rate), []
    shortest, longest = int(rate / high), int(rate / low)
    window = np.hanning(width)
    fading = correlate(window, window, method="fft")[width - 1 :][: longest + 1]
    for start in range(0, len(samples) - width, width):
        frame = samples[start : start + width] * window
        likeness = correlate(frame, frame, method="fft")[width - 1 :][: longest + 1] / fading
        if likeness[0] <= 1e-4:
            continue  # silence
        peaks = shortest + find_peaks(likeness[shortest:])[0]
        best = max(likeness[peaks], default=0)
        if best > 0.6 * likeness[0]:
            found.append(rate / next(lag for lag in peaks if likeness[lag] > 0.9 * best))  # not two periods at once
    return float(np.median(found))
