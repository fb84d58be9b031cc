"""From a request to the files of its result, with the runner and without the platform."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from shared.errors import AtelierError
from shared.settings import get_settings
from tests.sounds import encoded
from tests.speech.tiny_ears import RATE, Told, asked, noise, save_whisper
from workers.runtime.audio import read_audio
from workers.runtime.runner import InputRejected
from workers.speech.catalog import discover
from workers.speech.hearing.fitting import check_hearing
from workers.speech.runner import SpeechRunner
from workers.speech.spec import SPEECH
from workers.speech.transcription_schema import Transcription, TranscriptionReply
from workers.speech.transcription_spec import TRANSCRIBE

SURE = {"h": 2.0, "i": 1.0, "<|en|>": 0.0, "<|de|>": 1.0, "<|fr|>": -1.0}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_whisper(folder / "speech" / "tiny", SURE)
    return folder


@pytest.fixture
def runner(models: Path, monkeypatch: pytest.MonkeyPatch) -> SpeechRunner:
    monkeypatch.setattr(get_settings(), "models_dir", models)
    runner = SpeechRunner()
    runner.setup("cpu", "tiny")
    return runner


def run(runner: SpeechRunner, tmp_path: Path, body: bytes, **fields: Any) -> tuple[dict[str, Any], Told]:
    (tmp_path / "inputs").write_bytes(body)
    job = Told({"inputs": tmp_path / "inputs"})
    return runner.run(asked(**fields), job), job


def test_a_recording_becomes_a_reply_and_three_files(runner: SpeechRunner, tmp_path: Path) -> None:
    output, job = run(runner, tmp_path, encoded(noise(3)), language="de", word_timestamps=True)
    reply = TranscriptionReply.model_validate(
        {"success": True, "request_id": "1", **output, "transcription": output["text"]}
    )
    assert reply.text
    assert (reply.duration, reply.language, reply.model_info.model) == (3.0, "de", "tiny")
    assert " ".join(segment.text for segment in reply.segments) == reply.text
    assert all(segment.words is not None for segment in reply.segments)
    assert set(job.files) == set(reply.metadata.files) == {"transcript.json", "transcript.srt", "transcript.vtt"}
    written, media_type = job.files["transcript.json"]
    assert (json.loads(written), media_type) == (output, "application/json")
    assert job.files["transcript.srt"][0].startswith("1\n00:00:00,")
    assert job.files["transcript.vtt"][0].startswith("WEBVTT\n\n00:00:00.")


def test_without_timestamps_there_is_the_text_alone(runner: SpeechRunner, tmp_path: Path) -> None:
    output, job = run(runner, tmp_path, encoded(noise(3)), enable_timestamps=False)
    assert output["text"]
    assert (output["segments"], set(job.files)) == ([], {"transcript.json"})


def test_silence_is_an_empty_transcript(runner: SpeechRunner, tmp_path: Path) -> None:
    output, job = run(runner, tmp_path, encoded(np.zeros(3 * RATE, np.float32)))
    assert (output["text"], output["segments"], output["confidence"]) == ("", [], None)
    assert job.files["transcript.srt"][0] == ""


def test_a_recording_that_lasts_too_long_is_told_how_long_it_is(runner: SpeechRunner, tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match=r"File too large .*max_duration: 300, file_duration: 301\."):
        run(runner, tmp_path, encoded(np.zeros(301 * RATE, np.float32), "flac"))


def test_a_broken_recording_is_refused(runner: SpeechRunner, tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match="inputs cannot be read as a sound"):
        run(runner, tmp_path, encoded(noise(1), "flac")[:500])


def test_a_voice_does_not_hear(tmp_path: Path) -> None:
    runner = SpeechRunner()
    runner.setup("cpu", "house-voice")
    with pytest.raises(InputRejected, match="house-voice"):
        run(runner, tmp_path, encoded(noise(1)))


def test_the_catalog_tells_what_an_ear_can(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_settings(), "models_dir", models)
    card = next(card for card in discover() if card.name == "tiny")
    assert card.task == "automatic-speech-recognition"
    assert card.details["languages"] == ["de", "en", "fr"]
    assert card.details["tasks"] == ["transcribe", "translate"]
    assert card.details["sample_rate"] == RATE


KNOWN: Mapping[str, Mapping[str, Any]] = {
    "tiny": {"languages": ["de", "en"], "tasks": ["transcribe"], "fields": ["beam_size"]},
    "unknown": {"languages": [], "tasks": ["transcribe"], "fields": []},
    "voice": {"voices": []},
}


@pytest.mark.parametrize(
    ("fields", "field", "told"),
    [
        ({"language": "fr"}, "language", {"supported_languages": ["de", "en"]}),
        ({"task": "translate"}, "task", {"supported_tasks": ["transcribe"]}),
        ({"temperature": 0.2}, "temperature", {"supported_fields": ["beam_size"]}),
        ({"initial_prompt": "Ann"}, "initial_prompt", {}),
        ({"word_timestamps": True}, "word_timestamps", {}),
        ({"model": "unknown", "language": "de"}, "language", {"supported_languages": []}),
        ({"model": "voice"}, "model", {"available_models": ["tiny", "unknown"]}),
    ],
)
def test_what_a_model_cannot_is_refused_by_name(fields: dict[str, Any], field: str, told: dict[str, Any]) -> None:
    plain = {"beam_size": 5, "logprob_threshold": -1.0}
    check_hearing(asked(**plain), KNOWN)
    with pytest.raises(AtelierError) as caught:
        check_hearing(asked(**(plain | fields)), KNOWN)
    assert caught.value.status == (404 if field == "model" else 400)
    assert caught.value.details["field"] == field
    assert caught.value.details.items() >= told.items()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "one of file and inputs"),
        ({"file": {"name": "a"}, "inputs": {"name": "b"}}, "not both"),
        ({"file": {"name": "a"}, "model": "a", "model_name": "b"}, "different models"),
    ],
)
def test_a_request_names_one_file_and_one_model(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Transcription.model_validate(fields)


def test_either_name_of_the_model_serves() -> None:
    for name in ("model", "model_name"):
        request = Transcription.model_validate({"file": {"name": "a"}, name: "ear"})
        (ref,) = TRANSCRIBE.models(TRANSCRIBE.resolve(request))
        assert ref.name == "ear"
    (ref,) = TRANSCRIBE.models(TRANSCRIBE.resolve(Transcription.model_validate({"file": {"name": "a"}})))
    assert ref.name == get_settings().hearing_model == "house-ear"
    assert SPEECH.operation("speech.transcribe") is TRANSCRIBE


def recorded(samples: NDArray[np.float32], container: str, codec: str, rate: int) -> bytes:
    """As a telephone or a browser records it."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout="mono")
        for start in range(0, len(samples), 1024):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="flt", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(96_000) / 48_000)).astype(np.float32)
RECORDED = {
    "m4a": ("ipod", "aac", 48_000),
    "mp4": ("mp4", "aac", 48_000),
    "webm": ("webm", "libopus", 48_000),
}


@pytest.mark.parametrize("kind", RECORDED)
def test_what_telephones_and_browsers_record_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "sound"
    path.write_bytes(recorded(TONE, *RECORDED[kind]))
    found = read_audio(path, "file", 10)
    assert found.rate == 48_000
    assert found.seconds == pytest.approx(2, abs=0.1)
    assert np.sqrt((found.samples**2).mean()) == pytest.approx(0.354, abs=0.03)
    with pytest.raises(InputRejected, match="longer than 1 seconds"):
        read_audio(path, "file", 1)


WHOLE = recorded(TONE, *RECORDED["webm"])
BAD = {
    "half a WebM": (WHOLE[: len(WHOLE) // 2], "cut short"),
    "half an MP4": (recorded(TONE, *RECORDED["mp4"])[:4000], "cannot be read"),
    "a Matroska of FLAC": (recorded(TONE, "matroska", "flac", 48_000), "none of MP4"),
    "an MP4 of ALAC": (recorded(TONE, "ipod", "alac", 48_000), "none of MP4"),
    "noise that begins as an MP4": (b"\0\0\0\x1cftypM4A " + bytes(range(256)) * 20, "cannot be read|none of"),
    "noise that begins as a WebM": (b"\x1a\x45\xdf\xa3" + bytes(range(256)) * 20, "cannot be read|none of"),
    "a playlist": (b"\0\0\0\x1cftyp#EXTM3U\n/etc/passwd\n", "cannot be read|none of"),
}


@pytest.mark.hostile("A")
@pytest.mark.parametrize("name", BAD)
def test_recordings_that_are_not_ours_are_refused(tmp_path: Path, name: str) -> None:
    content, said = BAD[name]
    (tmp_path / "sound").write_bytes(content)
    with pytest.raises(InputRejected, match=said) as caught:
        read_audio(tmp_path / "sound", "file", 10)
    assert "\n" not in str(caught.value)
