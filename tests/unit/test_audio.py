"""Sounds of strangers are decoded in a process of their own, mono, plain, and within limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared.signatures import AUDIO_TYPES, HEAD, media_type_of
from tests.sounds import (
    KINDS,
    MEDIA_TYPES,
    RATE,
    encoded,
    hours_of_silence,
    old_codec,
    other_container,
    tone,
    wav_header,
    with_data_size,
    with_total,
)
from workers.runtime import decode_audio
from workers.runtime.audio import Sound, read_audio
from workers.runtime.runner import InputRejected

SECONDS = 60


def read(tmp_path: Path, content: bytes, seconds: float = SECONDS) -> Sound:
    (tmp_path / "s").write_bytes(content)
    return read_audio(tmp_path / "s", "sound", seconds)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_is_read(tmp_path: Path, kind: str) -> None:
    found = read(tmp_path, encoded(tone(), kind))
    assert (found.rate, found.samples.dtype, found.samples.ndim) == (RATE, np.float32, 1)
    assert found.seconds == pytest.approx(1, abs=0.1)
    spectrum = np.abs(np.fft.rfft(found.samples))
    assert np.fft.rfftfreq(len(found.samples), 1 / RATE)[spectrum.argmax()] == pytest.approx(440, abs=5)
    assert np.sqrt((found.samples**2).mean()) == pytest.approx(0.354, abs=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_known_by_how_it_begins(kind: str) -> None:
    assert media_type_of(encoded(tone(), kind)[:HEAD], AUDIO_TYPES) == MEDIA_TYPES[kind.split()[0]]


def test_channels_are_mixed_at_the_files_own_rate(tmp_path: Path) -> None:
    stereo = np.stack([tone(), np.zeros_like(tone())], axis=1)
    found = read(tmp_path, encoded(stereo, "wav of floats", 44_100))
    assert found.rate == 44_100
    assert np.array_equal(found.samples, tone() / 2)


def test_loud_samples_stay_as_they_are(tmp_path: Path) -> None:
    assert read(tmp_path, encoded(tone() * 8, "wav of floats")).samples.max() == pytest.approx(4, abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_the_longest_is_still_taken(tmp_path: Path, kind: str) -> None:
    assert read(tmp_path, encoded(tone(2), kind), 2.2).seconds >= 2
    with pytest.raises(InputRejected, match=r"sound: it is longer than 1\.5 seconds"):
        read(tmp_path, encoded(tone(2), kind), 1.5)


def test_a_wav_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    """As programs write it that send what they record."""
    assert read(tmp_path, with_data_size(encoded(tone()), 0xFFFFFFFF)).seconds == 1


def test_a_flac_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    assert read(tmp_path, with_total(encoded(tone(), "flac"), 0)).seconds == 1


@pytest.mark.hostile("A")
def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    bomb = hours_of_silence(3)
    assert len(bomb) < 500_000
    with pytest.raises(InputRejected, match="longer than 60 seconds"):
        read(tmp_path, bomb)


@pytest.mark.hostile("A")
def test_a_bomb_that_does_not_tell_its_length_is_refused_while_it_is_decoded(tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match="longer than 60 seconds"):
        read(tmp_path, with_total(hours_of_silence(3), 0))


@pytest.mark.hostile("A")
def test_a_header_that_tells_too_little_gets_no_more(tmp_path: Path) -> None:
    assert len(read(tmp_path, with_total(hours_of_silence(1), 8000)).samples) == 8000


@pytest.mark.hostile("A")
def test_many_channels_count_as_many_samples(tmp_path: Path) -> None:
    long = encoded(np.zeros((RATE * 601, 8), np.float32), "flac")
    with pytest.raises(InputRejected, match=f"more than {decode_audio.MAX_SAMPLES} samples"):
        read(tmp_path, long, 3600)


def floats(value: float) -> bytes:
    samples = tone()
    samples[5000] = value
    return encoded(samples, "wav of floats")


FLAC, WAV = encoded(tone(), "flac"), encoded(tone())
BAD = {
    "a number that is none": (floats(float("nan")), "samples that are no numbers"),
    "an infinite number": (floats(float("inf")), "samples that are no numbers"),
    "a FLAC that tells too much": (with_total(FLAC, RATE * 30), "cut short|cannot be read"),
    "half a FLAC": (FLAC[: len(FLAC) // 2], "cannot be read|cut short"),
    "half a WAV": (WAV[: len(WAV) // 2], "cut short"),
    "a WAV that tells too much": (with_data_size(WAV, 10**9), "cut short"),
    "half an Ogg": (encoded(tone(), "ogg vorbis")[:2000], "cannot be read|no sound"),
    "the start of an MP3": (encoded(tone(), "mp3")[:50], "cannot be read"),
    "a WAV without samples": (encoded(tone()[:0]), "no sound"),
    "a WAV without channels": (wav_header(channels=0), "cannot be read"),
    "nine channels": (wav_header(channels=9), "more than 8 channels"),
    "a rate of 1 Hz": (wav_header(rate=1), "its rate is not between 4000 and 192000 Hz"),
    "a rate of 1 MHz": (wav_header(rate=1_000_000), "its rate"),
    "an AIFF": (other_container("AIFF"), "none of WAV"),
    "a CAF": (other_container("CAF"), "none of WAV"),
    "an old codec": (old_codec(), "none of WAV"),
    "nothing": (b"", "cannot be read"),
    "words": (b"Dear reader, I am no sound.", "cannot be read"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(500), "cannot be read"),
    "noise that begins as a FLAC": (b"fLaC" + bytes(range(256)) * 20, "cannot be read"),
    "noise that begins as an Ogg": (b"OggS" + bytes(range(256)) * 20, "cannot be read"),
    "noise that begins as an MP3": (b"\xff\xfb\x90\x64" + bytes(range(256)) * 20, "cannot be read|no sound"),
    "a tag and nothing else": (b"ID3\x04\0\0\0\0\x0f\x7f" + bytes(2047), "cannot be read|none of"),
}


@pytest.mark.hostile("A")
@pytest.mark.parametrize("name", BAD)
def test_what_is_no_sound_of_ours_is_refused(tmp_path: Path, name: str) -> None:
    content, said = BAD[name]
    with pytest.raises(InputRejected, match=said) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith("sound")
    assert "\n" not in str(caught.value)


def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evil: str) -> None:
    """From now on the decoder does this when it begins."""
    script = Path(decode_audio.__file__).read_text()
    assert "    import soundfile\n" in script
    package = tmp_path / "workers" / "runtime"
    package.mkdir(parents=True)
    (package / "decode_audio.py").write_text(script.replace("    import soundfile\n", f"    {evil}\n", 1))
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.hostile("A")
def test_a_greedy_decoder_dies_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a decoder that a file makes take memory without end harms the worker."""
    child(tmp_path, monkeypatch, "bytearray(2 << 30)")
    with pytest.raises(InputRejected, match="cannot be read as a sound"):
        read(tmp_path, WAV)


def test_a_decoder_knows_no_secret_of_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    child(tmp_path, monkeypatch, "raise Refused(str(sorted(os.environ)))")
    with pytest.raises(InputRejected) as caught:
        read(tmp_path, WAV)
    assert "PATH" in str(caught.value)
    assert "AWS" not in str(caught.value)
    assert "DATABASE_URL" not in str(caught.value)
