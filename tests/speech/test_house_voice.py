"""Every field of /synthesize measurably acts, on the voice that is always there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.speech.conftest import RecordedJob
from tests.speech.measures import fundamental, rms
from workers.runtime.runner import JobStopped
from workers.speech.espeak import variants, voices
from workers.speech.espeak_data import espeak_languages, espeak_voices

TEXT = "The quick brown fox sleeps for three hours."
MAGIC = {"wav": b"RIFF", "flac": b"fLaC", "ogg": b"OggS", "mp3": b"\xff"}


def samples(spoken: tuple[RecordedJob, Any]) -> np.ndarray:
    return spoken[0].sound()[0]


@pytest.mark.parametrize("speed", [0.5, 1.3, 2.0])
@pytest.mark.parametrize("text", [TEXT, "Yes. No! Perhaps?"])
def test_speed_divides_the_duration(say: Any, text: str, speed: float) -> None:
    plain, fast = say(text)[1], say(text, speed=speed)[1]
    assert fast["duration"] == pytest.approx(plain["duration"] / speed, rel=0.05)


@pytest.mark.parametrize("pitch", [0.5, 1.2, 2.0])
def test_pitch_moves_the_voices_frequency_and_not_its_duration(say: Any, pitch: float) -> None:
    plain, moved = say(TEXT), say(TEXT, pitch=pitch)
    rate = plain[1]["sample_rate"]
    before, after = fundamental(samples(plain), rate), fundamental(samples(moved), rate, 60 * pitch, 400 * pitch)
    assert after == pytest.approx(before * pitch, rel=0.05)
    assert moved[1]["duration"] == plain[1]["duration"]


@pytest.mark.parametrize("volume", [0.1, 0.5, 2.0])
def test_volume_scales_the_amplitude(say: Any, volume: float) -> None:
    loud = say(TEXT, volume=volume)
    assert rms(samples(loud)) == pytest.approx(volume * rms(samples(say(TEXT))), rel=0.01)
    assert loud[1]["metadata"]["gain"] == volume


@pytest.mark.parametrize("kind", MAGIC)
def test_a_format_is_what_it_says_and_loses_no_sample(say: Any, kind: str) -> None:
    job, output = say(TEXT, output_format=kind)
    content, rate = job.sound()
    assert job.content.startswith(MAGIC[kind])
    assert list(job.files) == output["files"] == [f"speech.{kind}"]
    assert len(content) == len(samples(say(TEXT)))
    assert (rate, output["duration"]) == (output["sample_rate"], pytest.approx(len(content) / rate, abs=1e-3))
    assert np.corrcoef(content, samples(say(TEXT)))[0, 1] > 0.98
    assert job.media_type == {"wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg", "mp3": "audio/mpeg"}[kind]


@pytest.mark.parametrize("kind", MAGIC)
def test_quality_costs_bytes(say: Any, kind: str) -> None:
    low, medium, high = (say(TEXT, output_format=kind, quality=quality) for quality in ("low", "medium", "high"))
    assert len(low[0].content) < len(medium[0].content) < len(high[0].content)
    assert low[1]["sample_rate"] * 2 == medium[1]["sample_rate"] == high[1]["sample_rate"]
    assert low[1]["duration"] == medium[1]["duration"]


@pytest.mark.parametrize(
    "change",
    [{"language": "de"}, {"language": "en-gb"}, {"voice": "f2"}, {"voice": "whisper", "seed": 2}, {"emotion": "sad"}],
    ids=str,
)
def test_it_changes_the_sound(say: Any, change: dict[str, Any]) -> None:
    assert say(TEXT)[0].content != say(TEXT, **change)[0].content


def test_a_womans_voice_is_higher_and_emotions_differ_in_melody(say: Any) -> None:
    rate = 22_050
    assert fundamental(samples(say(TEXT, voice="f2")), rate) > 1.3 * fundamental(samples(say(TEXT)), rate)
    happy, sad = say(TEXT, emotion="happy"), say(TEXT, emotion="sad")
    assert fundamental(samples(happy), rate) > 1.1 * fundamental(samples(sad), rate)
    assert sad[1]["duration"] > 1.1 * happy[1]["duration"]
    assert say(TEXT, emotion="neutral")[0].content == say(TEXT)[0].content


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3"])
def test_the_same_request_makes_the_same_bytes_whatever_was_said_before(say: Any, kind: str) -> None:
    request = {"voice": "f5", "output_format": kind, "pitch": 1.1, "speed": 1.2}
    first = say(TEXT, **request)[0].content
    say("Something else.", voice="whisper")
    assert say(TEXT, **request)[0].content == first


def test_an_ogg_stream_has_a_number_of_its_own_and_the_same_sound(say: Any) -> None:
    assert np.array_equal(samples(say(TEXT, output_format="ogg")), samples(say(TEXT, output_format="ogg")))


def test_a_seed_acts_where_there_is_noise(say: Any) -> None:
    assert say(TEXT, voice="whisper", seed=1)[0].content != say(TEXT, voice="whisper", seed=2)[0].content


def test_normalizing_puts_numbers_and_abbreviations_into_words(say: Any) -> None:
    text = "Dr. Fox owes $5.50."
    worded, plain = say(text), say(text, normalize_text=False)
    assert worded[1]["metadata"]["sentences"] == ["doctor Fox owes five dollars fifty cents."]
    assert plain[1]["metadata"]["sentences"] == [text]
    assert worded[0].content != plain[0].content


def test_every_sentence_is_a_step_and_the_job_stops_between_two(say: Any) -> None:
    text = "One is here. Two is there. Three is nowhere."
    job, output = say(text)
    assert job.steps == [(1, 3), (2, 3), (3, 3)]
    assert len(output["metadata"]["sentences"]) == 3
    stopped = RecordedJob(stop_at=2)
    with pytest.raises(JobStopped):
        say(text, stopped)
    assert stopped.files == {}
    assert say(text)[0].content == job.content


def test_the_files_tell_what_the_library_has() -> None:
    assert espeak_languages() == sorted({voice.name for voice in voices()})
    assert espeak_voices() == [voice.name.removeprefix("+") for voice in variants()]
