"""Speed, pitch and volume of a steady tone: exactly what is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from tests.speech.measures import fundamental, rms
from workers.speech.effects import amplified, shaped

RATE = 22_050


@pytest.fixture(scope="module")
def tone() -> np.ndarray:
    """A second of 150 Hz with overtones, as a voice has them."""
    time = np.arange(RATE) / RATE
    return (0.1 * sum(np.sin(2 * np.pi * 150 * n * time) / n for n in range(1, 8))).astype(np.float32)


@pytest.mark.parametrize("speed", [0.5, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("pitch", [0.5, 1.0, 1.25, 2.0])
def test_speed_and_pitch_do_what_they_say_and_nothing_else(tone: np.ndarray, speed: float, pitch: float) -> None:
    made = shaped(tone, RATE, speed, pitch)
    assert len(made) == pytest.approx(len(tone) / speed, abs=2)
    assert fundamental(made, RATE) == pytest.approx(150 * pitch, rel=0.02)
    assert np.array_equal(made, shaped(tone, RATE, speed, pitch))


def test_nothing_becomes_nothing() -> None:
    assert len(shaped(np.zeros(0, np.float32), RATE, 2, 2)) == 0


@pytest.mark.parametrize("gain", [0.1, 0.5, 1.0, 2.0])
def test_a_gain_that_fits_scales_exactly(tone: np.ndarray, gain: float) -> None:
    loud, applied = amplified(tone, gain)
    assert applied == gain
    assert rms(loud) == pytest.approx(gain * rms(tone), rel=1e-5)


def test_a_gain_that_does_not_fit_is_as_large_as_fits_undistorted(tone: np.ndarray) -> None:
    loud, applied = amplified(4 * tone, 2.0)
    assert np.abs(loud).max() == pytest.approx(1.0)
    assert np.allclose(loud, applied * 4 * tone)
    assert 1 < applied < 2
