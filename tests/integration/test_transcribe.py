"""`POST /transcribe` through the real processes, in both dialects: a form with plain fields, and JSON."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.platform import Platform
from tests.sounds import encoded, other_container
from tests.speech.tiny_ears import save_whisper
from tests.uploads import whole

RATE = 16_000
CALM = {"beam_size": "1", "logprob_threshold": "-20"}  # one decoding a window
PATH = "/sync/transcribe"


@pytest.fixture(scope="module")
def environment(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    models = tmp_path_factory.mktemp("models")
    save_whisper(models / "speech" / "tiny", {"h": 2.0, "i": 1.0, "<|en|>": 0.0, "<|de|>": 1.0, "<|fr|>": -1.0})
    return {
        **environment,
        "ATELIER_MODELS_DIR": str(models),
        "ATELIER_HEARING_MODEL": "tiny",
        "ATELIER_FAMILIES": "speech",
        "ATELIER_LEASE_SECONDS": "60",  # the first job loads a library that takes its time
        "ATELIER_HEARTBEAT_SECONDS": "15",
        "DEVICE": "cpu",
    }


@pytest.fixture(scope="module")
def platform(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    platform = Platform(environment, tmp_path_factory.mktemp("logs"))
    platform.client.timeout = httpx.Timeout(120)
    try:
        yield platform.start()
    finally:
        platform.close()


def recording(seconds: float = 2.0) -> bytes:
    rng = np.random.default_rng(1)
    return encoded((0.1 * rng.standard_normal(int(seconds * RATE))).astype(np.float32), "flac")


def post_form(platform: Platform, path: str = PATH, body: bytes | None = None, **fields: Any) -> httpx.Response:
    files = {"file": ("speech.flac", recording() if body is None else body)}
    return platform.client.post(path, files=files, data=fields)


def test_a_form_with_plain_fields_is_heard(platform: Platform) -> None:
    answer = post_form(platform, model="tiny", language="de", task="transcribe", enable_timestamps="False", **CALM)
    assert answer.status_code == 200, answer.text
    reply = answer.json()
    assert set(reply["text"]) == {"h"}
    assert reply["transcription"] == reply["text"]
    assert (reply["language"], reply["model_used"], reply["segments"]) == ("de", "tiny", [])


def test_json_is_heard_and_leaves_its_files(platform: Platform) -> None:
    uri = "data:audio/flac;base64," + base64.b64encode(recording()).decode()
    fields = {"beam_size": 1, "logprob_threshold": -20.0}
    answer = platform.client.post("/transcribe", json={"model_name": "tiny", "inputs": uri, **fields})
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["job_id"]
    assert platform.finished(job_id)["status"] == "completed"
    reply = platform.client.get(f"/results/{job_id}", headers={"Accept": "application/json"}).json()
    assert (reply["language"], reply["duration"]) == ("de", 2.0)
    subtitles = platform.client.get(f"/results/{job_id}/files/transcript.vtt")
    assert subtitles.headers["content-type"].startswith("text/vtt")
    assert subtitles.text.startswith("WEBVTT")


def test_config_serves_beside_plain_fields(platform: Platform) -> None:
    answer = post_form(platform, config='{"language": "fr", "enable_timestamps": false}', **CALM)
    assert (answer.status_code, answer.json()["language"]) == (200, "fr")


def test_a_recording_may_be_an_upload(platform: Platform) -> None:
    inputs = whole(platform.client, recording())["reference"]
    answer = platform.client.post("/transcribe", json={"inputs": inputs})
    assert answer.status_code == 202, answer.text
    platform.client.post(f"/jobs/{answer.json()['job_id']}/cancel")


REFUSED: dict[str, tuple[dict[str, Any], str, int]] = {
    "a number that is none": ({"beam_size": "five"}, "beam_size", 400),
    "a number out of range": ({"beam_size": "11"}, "beam_size", 400),
    "a fraction for a whole number": ({"beam_size": "2.5"}, "beam_size", 400),
    "no number": ({"temperature": "nan"}, "temperature", 400),
    "neither true nor false": ({"enable_timestamps": "maybe"}, "enable_timestamps", 400),
    "a word that is no choice": ({"task": "sing"}, "task", 400),
    "an unknown field": ({"nope": "1"}, "nope", 400),
    "NUL": ({"initial_prompt": "a\0b"}, "initial_prompt", 400),
    "said twice": ({"language": "de", "config": '{"language": "de"}'}, "language", 400),
    "two names for two models": ({"model": "tiny", "model_name": "other"}, "body", 400),
    "a language that the model does not know": ({"language": "ja"}, "language", 400),
    "an unknown model": ({"model": "nobody"}, "model", 404),
    "a voice": ({"model": "house-voice"}, "model", 404),
}


@pytest.mark.hostile("F")
@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_field_is_refused_by_name(platform: Platform, name: str) -> None:
    fields, field, status = REFUSED[name]
    answer = post_form(platform, "/transcribe", **fields)
    assert (answer.status_code, answer.json()["details"]["field"]) == (status, field), answer.text
    if status == 404:
        assert answer.json()["message"] == "Model not available"
        assert "tiny" in answer.json()["details"]["available_models"]


@pytest.mark.hostile("F")
def test_files_in_the_wrong_place_are_refused(platform: Platform) -> None:
    both = {"file": ("a.flac", recording()), "language": ("b.txt", b"de")}
    assert platform.client.post("/transcribe", files=both).json()["details"]["field"] == "language"
    answer = post_form(platform, "/transcribe", inputs="https://example.com/a.wav")
    assert (answer.status_code, "not both" in answer.json()["message"]) == (400, True)
    assert platform.client.post("/transcribe", json={"model": "tiny"}).status_code == 400
    path = platform.client.post("/transcribe", json={"inputs": "/etc/passwd"})
    assert (path.status_code, path.json()["details"]["field"]) == (400, "inputs"), "no path of the server's"


def test_another_format_is_told_which_are_taken(platform: Platform) -> None:
    answer = post_form(platform, "/transcribe", body=other_container("AIFF"))
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("Unsupported audio format")
    assert "audio/mp4" in answer.json()["details"]["supported_formats"]


def test_the_documents_show_the_fields_of_the_form(platform: Platform) -> None:
    document = platform.client.get("/openapi.json").json()
    form = document["paths"]["/transcribe"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["file"]["format"] == "binary"
    assert (form["properties"]["beam_size"]["type"], form["properties"]["beam_size"]["maximum"]) == ("integer", 10)
    assert {"model", "language", "task", "config"} <= form["properties"].keys()
