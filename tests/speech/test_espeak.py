"""The wrapper of eSpeak NG: what is asked is what is said, and what cannot be is an error with a name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from workers.speech import espeak


def test_a_sentence_is_heard() -> None:
    samples, rate = espeak.speak("Good morning.", "en-gb")
    assert rate == espeak.RATE
    assert samples.dtype == np.int16
    assert 0.4 < len(samples) / rate < 2
    assert np.abs(samples).max() > 3_000


def test_a_text_without_words_is_silent() -> None:
    assert not espeak.speak("")[0].any()


def pitches(**how: Any) -> NDArray[np.float64]:
    """The fundamental of each twentieth of a second that has a voice, in Hz. eSpeak never says a thing twice alike."""
    samples, rate = espeak.speak("Where are you going?", **how)
    found = []
    for piece in np.array_split(samples.astype(np.float64), len(samples) * 20 // rate):
        alike = np.correlate(piece, piece, "full")[len(piece) :]
        lag = rate // 400 + int(alike[rate // 400 : rate // 60].argmax())
        if alike[lag] > 0.4 * np.sum(piece**2) > 1e7:
            found.append(rate / lag)
    return np.array(found)


def test_each_setting_is_heard() -> None:
    def seconds(words_per_minute: int) -> float:
        return len(espeak.speak("Where is the station?", words_per_minute=words_per_minute)[0]) / espeak.RATE

    assert seconds(100) > 1.4 * seconds(200)
    assert np.median(pitches(pitch=90)) > 1.3 * np.median(pitches(pitch=20))
    assert pitches(pitch_range=99).std() > 1.5 * pitches(pitch_range=0).std()
    quiet, loud = (np.abs(espeak.speak("Hello.", volume=volume)[0]).max() for volume in (40, 100))
    assert quiet < 0.6 * loud


def test_voices_and_their_variants() -> None:
    names = {voice.name for voice in espeak.voices()}
    assert {"en-us", "en-gb", "de", "fr-fr"} <= names
    assert {"+f3", "+m3"} <= {variant.name for variant in espeak.variants()}
    assert np.median(pitches(voice="en-gb+f3")) > 1.3 * np.median(pitches(voice="en-gb+m3"))


@pytest.mark.parametrize("voice", ["xx", "en-u", "en-us+nobody", "en-us+", "en-us+m3+f2", "", "../en"])
def test_an_unknown_voice_is_named(voice: str) -> None:
    with pytest.raises(espeak.UnknownVoice, match="eSpeak has no voice"):
        espeak.speak("Hello.", voice)


@pytest.mark.parametrize("setting", [{"pitch": 100}, {"words_per_minute": 79}, {"volume": -1}, {"pitch_range": 100}])
def test_a_number_out_of_range_is_refused(setting: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        espeak.speak("Hello.", **setting)


def test_a_long_speech_can_be_stopped() -> None:
    asked = []
    with pytest.raises(espeak.SpeechStopped):
        espeak.speak("hello " * 200, stopped=lambda: bool(asked.append(1) or len(asked) > 2))
    assert len(asked) <= 4


def test_threads_wait_for_each_other() -> None:
    texts = ["one", "two hundred", "three thousand and four"] * 4
    alone = [espeak.speak(text)[0] for text in texts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda text: espeak.speak(text)[0], texts))
    assert all(0.97 < len(a) / len(b) < 1.03 for a, b in zip(alone, together, strict=True))


def test_sounds_of_a_text() -> None:
    assert espeak.phonemes("Hello. Good day.", "en-us") == "həlˈoʊ ɡˈʊd dˈeɪ"
