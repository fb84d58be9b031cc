"""Reference API 004: its own calls, unmodified but for their base URL, and its addresses' shapes."""

from __future__ import annotations

import base64
import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import soundfile
from PIL import Image

from tests.models.conftest import hub_environment
from tests.models.hub_server import FakeHub, serving_hub
from tests.platform import Platform, wait_until
from tests.predict.tiny import build_all
from tests.speech.tiny import build_speecht5

EXAMPLE = {"model_name": "example", "inputs": [1, 2, 3, 4, 5]}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    """Has a small SpeechT5 and its vocoder, where the real ones are."""
    speaker = build_speecht5(tmp_path_factory.mktemp("hub") / "t5")
    with serving_hub() as fake:
        fake.add("microsoft/speecht5_tts", contents(speaker), tags=("speecht5",), task="text-to-speech")
        fake.add("microsoft/speecht5_hifigan", contents(speaker / "vocoder"))
        yield fake


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def platform(environment: dict[str, str], hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    models = tmp_path_factory.mktemp("models")
    build_all(models / "predict")
    slow = {"ATELIER_LEASE_SECONDS": "20", "ATELIER_HEARTBEAT_SECONDS": "2"}
    places = hub_environment(hub, models) | {"ATELIER_HUB_OWNERS": "microsoft"}
    platform = Platform({**environment, **slow, **places}, tmp_path_factory.mktemp("logs"))
    try:
        yield platform.start()
    finally:
        platform.close()


@pytest.fixture(scope="module")
def base_url(platform: Platform) -> str:
    return f"http://127.0.0.1:{platform.port}/sync"


def predict(base_url: str, **body: Any) -> requests.Response:
    return requests.post(f"{base_url}/predict", json=EXAMPLE | body)


def curl(address: str, body: dict[str, Any] | None = None) -> Any:
    """What the documentation's calls print."""
    post = ["-X", "POST", "-H", "Content-Type: application/json", "-d", json.dumps(body)] if body else []
    return json.loads(subprocess.run(["curl", "-s", *post, address], capture_output=True, check=True).stdout)


def test_its_model_is_downloaded_and_speaks(platform: Platform, base_url: str) -> None:
    """The calls 2, 3 and 4 of its documentation; the model is there before it is asked to speak."""
    made = curl(
        f"{base_url}/models/download",
        {
            "source": "huggingface",
            "model_id": "microsoft/speecht5_tts",
            "name": "speecht5_tts",
            "task": "text-to-speech",
            "include_vocoder": True,
        },
    )
    assert (made["success"], made["status"], made["model_name"]) == (True, "completed", "speecht5_tts")
    told = curl(f"{base_url}/models/download/status/{made['download_id']}")
    assert (told["status"], told["progress"]) == ("completed", 100.0)
    wait_until(lambda: "speecht5_tts" in curl(f"{base_url}/models")["available_models"], what="its report")
    said = curl(
        f"{base_url}/synthesize",
        {"model_name": "speecht5_tts", "inputs": "Hello, this is a test of the text-to-speech system."},
    )
    assert (said["success"], said["model_info"]["model_name"]) == (True, "speecht5_tts")
    sound, rate = soundfile.read(io.BytesIO(base64.b64decode(said["audio_data"])))
    assert (said["audio_format"], said["sample_rate"]) == ("wav", rate)
    assert said["duration"] == pytest.approx(len(sound) / rate, abs=0.001)
    health = curl(f"{base_url}/health")
    assert health["healthy"] is True


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("Where is the nearest station?", "wav"),
        ("The train leaves at half past eight.", "mp3"),
        ("Good morning. We need bread and a cup of tea.", "flac"),
    ],
)
def test_what_the_house_says_the_house_hears(base_url: str, text: str, format: str) -> None:
    said = curl(f"{base_url}/synthesize", {"text": text, "output_format": format})
    file = (f"said.{format}", base64.b64decode(said["audio_data"]))
    form = requests.post(f"{base_url}/transcribe", files={"file": file}, data={"model": "house-ear"}).json()
    assert form["text"] == form["transcription"] == text
    assert form["segments"][-1]["end"] <= said["duration"] + 0.5
    address = f"data:audio/{format};base64,{said['audio_data']}"
    assert curl(f"{base_url}/transcribe", {"model_name": "house-ear", "inputs": address})["text"] == text


def test_the_predict_call_of_its_documentation(base_url: str) -> None:
    body = curl(f"{base_url}/predict", {"model_name": "example", "inputs": [1, 2, 3, 4, 5]})
    assert body["success"] is True
    assert body["result"] == pytest.approx(0.902765, abs=2e-6)
    assert body["processing_time"] > 0
    assert {"model": "example", "device": "cpu", "input_type": "single", "input_count": 1}.items() <= body[
        "model_info"
    ].items()
    assert body["model_info"]["processing_path"] == "single"
    assert {"inflight_batching_enabled", "processed_as_batch", "concurrent_optimization"} <= body["batch_info"].keys()


def test_a_list_of_lists_is_a_batch_at_each_of_the_addresses(base_url: str) -> None:
    several = [[1, 2, 3, 4, 5], [2], [0.5, -1]]
    for path, body in (("/predict", EXAMPLE), ("/predict/batch", EXAMPLE), ("/example/predict", {})):
        answer = requests.post(f"{base_url}{path}", json={**body, "inputs": several}).json()
        assert [type(number) for number in answer["result"]] == [float] * 3
        assert answer["result"][0] == pytest.approx(0.902765, abs=2e-6)
        assert (answer["model_info"]["input_type"], answer["batch_info"]["batch_size"]) == ("batch", 3)
    other = requests.post(f"{base_url}/other/predict", json=EXAMPLE)
    assert (other.status_code, other.json()["details"]["field"]) == (400, "model_name")


def test_a_model_that_is_not_there_is_404_in_the_references_words(base_url: str) -> None:
    answer = predict(base_url, model_name="x")
    problem = answer.json()
    assert answer.status_code == 404
    assert problem["message"] == problem["detail"] == "Model 'x' is not available. Check models.json configuration."
    assert problem["success"] is False
    assert "example" in problem["details"]["available"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"inputs": [[[1]]]}, "inputs"),
        ({"inputs": [1, None]}, "inputs"),
        ({"inputs": None}, "inputs"),
        ({"inputs": {"a": 1}}, "inputs"),
        ({"inputs": [1] * 11}, "inputs"),
        ({"inputs": 5}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"priority": 11}, "priority"),
        ({"timeout": -1}, "timeout"),
        ({"enable_batching": "yes"}, "enable_batching"),
        ({"parameters": {"top_k": 5}}, "parameters"),
        ({"unknown": 1}, "unknown"),
        ({"model_name": "fill-mask", "inputs": [1, 2]}, "inputs"),
        ({"model_name": "fill-mask", "inputs": "[MASK]", "parameters": {"pooling": "cls"}}, "parameters.pooling"),
        ({"model_name": "rows", "inputs": "a text"}, "inputs"),
    ],
    ids=str,
)
def test_invalid_input_is_400_and_named_and_never_replaced(base_url: str, body: dict[str, Any], field: str) -> None:
    answer = predict(base_url, **body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["details"]["field"] == field


def test_what_only_the_model_can_tell_fails_the_job_by_name(base_url: str) -> None:
    answer = predict(base_url, model_name="rows", inputs=[1, 2])
    assert answer.status_code == 409
    assert answer.json()["message"] == "Invalid inputs: the shape [1, 2] does not fit [rows, 3]."
    assert answer.json()["details"]["code"] == "input_rejected"


def test_tokens_priorities_and_names_in_arrays_are_taken_as_documented(platform: Platform, base_url: str) -> None:
    assert predict(base_url, token="anything").status_code == 200  # while authentication is off
    job = platform.submit("/predict", **EXAMPLE, priority=10)
    assert platform.finished(job)["priority"] == 9
    array = requests.post(f"{base_url}/predict", json=[EXAMPLE])
    assert (array.status_code, array.json()["details"]["field"]) == (400, "body")
    assert "/predict/batch" not in array.json()["message"], "which takes no arrays either"


def test_a_request_that_takes_longer_than_it_may_is_504_in_the_references_words(base_url: str) -> None:
    answer = predict(base_url, timeout=0.0001)
    assert (answer.status_code, answer.json()["error"], answer.json()["message"]) == (
        504,
        "timeout",
        "Request timed out",
    )


def test_requests_that_wait_are_computed_together_unless_one_does_not_want_to(platform: Platform) -> None:
    blocker = platform.submit(steps=2000, step_seconds=0.05)
    platform.running(blocker)
    bodies = [EXAMPLE | {"inputs": [1, n]} for n in range(5)]
    together = [platform.submit("/predict", **body) for body in bodies]
    alone = platform.submit("/predict", **bodies[0], enable_batching=False)
    platform.client.post(f"/jobs/{blocker}/cancel")

    def result(job: str) -> dict[str, Any]:
        assert platform.finished(job)["status"] == "completed"
        return platform.client.get(f"/results/{job}", headers={"Accept": "application/json"}).json()

    shared, single = [result(job) for job in together], result(alone)
    assert [answer["batch_info"]["requests"] for answer in shared] == [5] * 5
    assert {answer["model_info"]["processing_path"] for answer in shared} == {"shared_batch"}
    assert all(answer["batch_info"]["concurrent_optimization"] for answer in shared)
    assert (single["batch_info"]["requests"], single["batch_info"]["inflight_batching_enabled"]) == (1, False)
    assert shared[0]["result"] == pytest.approx(single["result"], abs=2e-6)
    assert len({answer["result"] for answer in shared}) == 5


def test_a_picture_comes_as_a_part_of_a_form_or_in_the_json(base_url: str) -> None:
    content = io.BytesIO()
    Image.new("RGB", (50, 40), "red").save(content, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
    form = requests.post(
        f"{base_url}/image-classification/predict", files={"image": ("red.png", content.getvalue(), "image/png")}
    )
    inline = requests.post(f"{base_url}/image-classification/predict", json={"inputs": uri})
    as_file = requests.post(f"{base_url}/image-classification/predict", json={"image": uri})
    assert form.status_code == 200, form.text
    assert form.json()["result"] == inline.json()["result"] == as_file.json()["result"]
    assert {entry["label"] for entry in form.json()["result"]} == {"bad", "fair", "good"}


def test_its_server_pages_have_their_keys_and_real_figures(platform: Platform, base_url: str) -> None:
    stats = requests.get(f"{base_url}/stats").json()
    assert stats["stats"].keys() >= {
        *("requests_processed", "total_processing_time", "avg_processing_time", "active_requests", "queue_size"),
        "memory_usage_mb",
    }
    assert stats["performance_report"].keys() == {
        *("throughput_fps", "latency_p50", "latency_p95", "latency_p99", "device_utilization"),
    }
    before = stats["stats"]["requests_processed"]
    predict(base_url)
    after = requests.get(f"{base_url}/stats").json()
    assert after["stats"]["requests_processed"] == before + 1 == after["stats"]["recent"]["completed"]
    assert 0 < after["stats"]["avg_processing_time"] < after["performance_report"]["latency_p99"]
    assert after["stats"]["queue_size"] == after["stats"]["active_requests"] == 0

    info = requests.get(f"{base_url}/info").json()
    assert info["server_config"].keys() == {
        *("optimization_level", "caching_strategy", "tts_backend", "auto_optimization", "server_features"),
        *("tts_configuration", "performance_settings"),
    }
    assert info["performance_metrics"].keys() == {
        *("cache_hit_rate", "models_in_memory", "system_metrics", "gpu_metrics", "tts_metrics"),
    }
    assert info["tts_service"].keys() == {
        *("status", "available_voices", "supported_languages", "loaded_tts_models", "capabilities"),
    }
    assert "predict.predict" in info["server_config"]["server_features"]
    assert info["performance_metrics"]["models_in_memory"] >= 1

    config = requests.get(f"{base_url}/config").json()
    assert config["configuration"] == {"device": "cpu", "devices": ["cpu"], "batch": 32}
    assert config["inference_config"].keys() == {"device_type", "batch_size", "use_fp16", "enable_profiling"}
    assert config["server_config"] == {"host": "127.0.0.1", "port": platform.port, "log_level": "WARNING"}
    assert config["logging_config"].keys() == {"log_level", "log_directory", "log_files"}
    for secret in ("DATABASE_URL", "REDIS_URL"):
        assert platform.environment[secret] not in str((config, info, stats))
