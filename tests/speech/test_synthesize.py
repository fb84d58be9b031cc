"""POST /synthesize through the real processes, in both dialects of the reference API 004, and the two health pages."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import soundfile

from tests.platform import Platform, wait_until

CONTRACT = {
    *("success", "audio_data", "audio_format", "duration", "sample_rate", "processing_time", "model_info"),
    *("format", "channels", "model_used", "voice_used", "generation_time", "text_length", "metadata"),
}


@pytest.fixture(scope="module")
def platform(
    environment: dict[str, str], models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    own = {
        "ATELIER_MODELS_DIR": str(models_dir),
        "ATELIER_FAMILIES": "speech",
        "ATELIER_LEASE_SECONDS": "20",
        "ATELIER_HEARTBEAT_SECONDS": "2",
    }
    platform = Platform({**environment, **own}, tmp_path_factory.mktemp("logs"))
    try:
        platform.start("gateway")
        yield platform
    finally:
        platform.close()


@pytest.fixture(scope="module")
def served(platform: Platform) -> Platform:
    """With its worker and coordinator."""
    before = platform.client.get("/tts/health").json()
    assert (before["status"], before["models"]) == ("no_models", {})
    empty = platform.client.get("/audio/health").json()
    assert (empty["status"], empty["tts_available"], empty["dependencies"]) == ("no_models", False, {})
    assert len(empty["errors"]) == 3
    return platform.start("coordinator", "worker")


def synthesize(platform: Platform, **body: Any) -> httpx.Response:
    return platform.client.post("/sync/synthesize", json=body, timeout=120)


def test_both_dialects_are_answered_with_the_sound(served: Platform) -> None:
    ours = synthesize(served, text="Good morning.", model="house-voice", format="flac", voice="f2")
    theirs = synthesize(served, inputs="Good morning.", model_name="house-voice", output_format="flac", voice="f2")
    assert (ours.status_code, theirs.status_code) == (200, 200), ours.text
    body = ours.json()
    assert body.keys() >= CONTRACT
    content = base64.b64decode(body["audio_data"])
    samples, rate = soundfile.read(io.BytesIO(content))
    assert content.startswith(b"fLaC")
    assert (rate, len(samples) / rate) == (body["sample_rate"], pytest.approx(body["duration"], abs=1e-3))
    assert body["model_info"] == {
        "model_name": "house-voice",
        "voice": "f2",
        "language": "en-us",
        "actual_model": "eSpeak NG",
    }
    assert (body["audio_format"], body["format"], body["text_length"]) == ("flac", "flac", 13)
    assert theirs.json()["audio_data"] == body["audio_data"]


def test_a_job_has_its_file_and_says_what_it_said(served: Platform) -> None:
    job = served.submit("/synthesize", text="One. Two. Three.", output_format="ogg")
    assert served.finished(job)["status"] == "completed"
    archive = zipfile.ZipFile(io.BytesIO(served.client.get(f"/results/{job}").content))
    assert archive.namelist() == ["manifest.json", "speech.ogg"]
    assert archive.read("speech.ogg").startswith(b"OggS")
    output = json.loads(archive.read("manifest.json"))["output"]
    assert output["metadata"]["sentences"] == ["One.", "Two.", "Three."]


def test_a_network_speaks_by_the_file_of_a_form(served: Platform, models_dir: Path) -> None:
    file = (models_dir / "speech" / "t5" / "voices" / "bob.safetensors").read_bytes()
    form = {"config": json.dumps({"text": "Hello there.", "model": "t5"})}
    by_file = served.client.post("/sync/synthesize", data=form, files={"speaker_file": file}, timeout=120)
    assert by_file.status_code == 200, by_file.text
    assert by_file.json()["voice_used"] == "speaker_embedding"
    by_name = synthesize(served, text="Hello there.", model="t5", voice="bob").json()
    assert by_file.json()["audio_data"] == by_name["audio_data"]


@pytest.mark.hostile("N")
@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({}, "text", "required"),
        ({"text": "x" * 5001}, "text", "Text too long. Maximum 5000 characters allowed."),
        ({"text": "a", "inputs": "b"}, "text", "something else"),
        ({"text": "a", "speed": 3}, "speed", "Must be between 0.5 and 2"),
        ({"text": "a", "enable_streaming": True}, "enable_streaming", "events"),
        ({"text": "a", "voice": "nobody"}, "voice", "no such voice"),
        ({"text": "a", "model": "vits", "emotion": "sad"}, "emotion", "those that have"),
        ({"text": "a", "model": "vits", "language": "de"}, "language", "does not speak"),
        ({"text": "a", "speaker_file": "data:;base64,AAAA"}, "speaker_file", "safetensors"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_input_is_a_400_that_names_the_field(
    served: Platform, body: dict[str, Any], field: str, words: str
) -> None:
    answer = synthesize(served, **body)
    assert (answer.status_code, answer.json()["details"]["field"]) == (400, field), answer.text
    assert words in answer.json()["detail"]


def test_a_model_that_nobody_has_is_a_404_with_those_there_are(served: Platform) -> None:
    answer = synthesize(served, inputs="Hello.", model_name="tacotron2")
    assert (answer.status_code, answer.json()["detail"]) == (404, "Model not available")
    assert {"house-voice", "t5", "vits"} <= set(answer.json()["details"]["available_models"])


def test_health_tells_what_can_speak_and_what_is_loaded(served: Platform) -> None:
    synthesize(served, text="Hello.")
    wait_until(lambda: "house-voice" in served.client.get("/tts/health").json()["loaded_tts_models"], 15)
    tts = served.client.get("/tts/health").json()
    assert tts["status"] == "healthy"
    assert tts["available_voices"]["t5"] == ["ann", "bob", "neutral"]
    assert {"de", "en-us", "eng"} <= set(tts["supported_languages"])
    assert tts["voice_options"]["speed"] == [0.5, 2]
    audio = served.client.get("/audio/health").json()
    assert (audio["audio_available"], audio["tts_models"]) == (True, ["house-voice", "t5", "vits"])
    assert audio["dependencies"]["soundfile"]["version"] == soundfile.__version__
    assert audio["dependencies"]["torchaudio"]["available"] is False
    assert audio["supported_formats"]["synthesis"] == ["wav", "mp3", "flac", "ogg"]
    served.terminate("worker")
    gone = wait_until(lambda: (b := served.client.get("/audio/health").json())["status"] == "no_workers" and b, 15)
    assert (gone["tts_available"], gone["tts_models"]) == (False, ["house-voice", "t5", "vits"])
