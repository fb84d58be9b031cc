"""Recordings before they are heard: another rate, and windows."""

from __future__ import annotations

import numpy as np
import pytest

from workers.speech.hearing.samples import resampled, windows

RATE = 16_000


def tone(hertz: float, rate: int) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(rate) / rate).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_a_tone_stays_a_tone(rate: int) -> None:
    found = resampled(tone(440, rate), rate, RATE)
    assert (len(found), found.dtype) == (RATE, np.float32)
    middle = slice(RATE // 10, -RATE // 10)
    assert np.abs(found - tone(440, RATE))[middle].max() < 0.01


def test_what_the_new_rate_cannot_hold_does_not_fold_back() -> None:
    assert np.abs(resampled(tone(10_000, 44_100), 44_100, RATE))[1000:-1000].max() < 0.01


def test_windows_are_cut_at_the_quietest_moment_and_leave_out_silence() -> None:
    rng = np.random.default_rng(1)
    samples = rng.standard_normal(RATE * 6).astype(np.float32)
    samples[int(1.8 * RATE) : int(1.9 * RATE)] = 0
    samples[int(3.7 * RATE) :] = 0
    found = list(windows(samples, RATE, 2))
    assert found[0].start == 0
    assert 1.8 <= found[1].start / RATE <= 1.9
    assert found[1].start == len(found[0].samples)
    assert all(len(window.samples) <= 2 * RATE for window in found)
    assert found[-1].start < 3.8 * RATE, "what is silent is no window"
    assert list(windows(samples[:0], RATE, 2)) == []
