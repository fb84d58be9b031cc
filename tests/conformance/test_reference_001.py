"""Reference API 001: its own clients, unmodified but for their base URL, and its addresses' shapes."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from PIL import Image

from tests.platform import Platform, wait_until
from workers.image.catalog import HOUSE, LORA_FILE
from workers.image.house.checker import read


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ATELIER_MODELS_DIR, empty at first."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def platform(
    environment: dict[str, str], models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    slow = {"ATELIER_LEASE_SECONDS": "20", "ATELIER_HEARTBEAT_SECONDS": "2", "ATELIER_MODELS_DIR": str(models_dir)}
    platform = Platform({**environment, **slow}, tmp_path_factory.mktemp("logs"))
    try:
        yield platform.start()
    finally:
        platform.close()


@pytest.fixture(scope="module")
def base_url(platform: Platform) -> str:
    return f"http://127.0.0.1:{platform.port}/sync"


def test_the_python_client_of_its_documentation(base_url: str) -> None:
    response = requests.post(
        f"{base_url}/generate",
        json={"prompt": "a large red circle on a blue background", "num_inference_steps": 20, "guidance_scale": 7.5},
    )
    assert response.status_code == 200, response.text
    data = response.json()
    image_data = data["images"][0].split(",")[1]
    image = Image.open(io.BytesIO(base64.b64decode(image_data)))
    assert image.size == (512, 512)
    assert data["images"][0].startswith("data:image/png;base64,")
    assert data["negative_prompt"] == ""
    assert data["generation_time"] > 0
    info = data["model_info"]
    assert (info["inference_steps"], info["guidance_scale"], info["resolution"]) == (20, 7.5, "512x512")
    assert info["lora_applied"] is False
    assert isinstance(info["seed"], int)


def test_the_picture_shows_what_the_prompt_says(base_url: str) -> None:
    body = {"prompt": "a large red circle on a blue background", "seed": 3}
    data = requests.post(f"{base_url}/generate", json=body).json()
    image = Image.open(io.BytesIO(base64.b64decode(data["images"][0].split(",")[1])))
    reading = read(image)
    assert reading.background == "blue"
    assert [(thing.colour, thing.shape) for thing in reading.things] == [("red", "circle")]
    again = requests.post(f"{base_url}/generate", json=body).json()
    assert again["images"] == data["images"], "the same request and seed make the same picture"
    metadata = json.loads(image.text["atelier"])  # type: ignore[attr-defined]
    assert (metadata["seed"], metadata["prompt"]) == (3, body["prompt"])


def test_a_batch_answers_item_by_item(base_url: str) -> None:
    items = [
        {"prompt": "a green star on a white background", "num_inference_steps": 4, "width": 256, "height": 256},
        {"prompt": "a red ring", "num_inference_steps": 3, "width": 256, "height": 264, "num_images": 2, "seed": 9},
    ]
    results = requests.post(f"{base_url}/generate/batch", json=items).json()["results"]
    assert [(item["index"], item["success"]) for item in results] == [(0, True), (1, True)]
    assert len(results[1]["result"]["images"]) == 2
    assert results[1]["result"]["model_info"]["seeds"] == [9, 10]
    picture = Image.open(io.BytesIO(base64.b64decode(results[1]["result"]["images"][0].split(",")[1])))
    assert picture.size == (256, 264)


def test_an_invalid_item_fails_the_whole_batch_and_is_named(base_url: str) -> None:
    answer = requests.post(f"{base_url}/generate/batch", json=[{"prompt": "x"}, {"prompt": "x", "width": 100}])
    assert answer.status_code == 400
    assert answer.json()["details"]["errors"][0]["loc"] == [1, "width"]


def test_what_is_loaded_is_told_as_it_is(base_url: str) -> None:
    status = requests.get(f"{base_url}/models/status").json()
    assert status["loaded"] is True
    assert status["device"] == "cpu"
    health = requests.get(f"{base_url}/health", params={"profile": "sd"}).json()
    assert set(health) == {"status", "timestamp", "model_status"}
    assert health["status"] == "healthy"
    assert set(health["model_status"]) >= {"loaded", "lora_available", "device", "model_info"}
    metrics = requests.get(f"{base_url}/metrics").json()
    assert metrics["model_loaded"] is True
    assert metrics["api_version"] == "1.0.0"
    assert metrics["torch_version"].startswith("2.")


def test_a_lora_that_is_added_while_the_worker_runs_can_be_named(base_url: str, models_dir: Path) -> None:
    body = {"prompt": "a red star on white", "width": 256, "height": 256, "num_inference_steps": 6, "seed": 2}
    (models_dir / "image" / "loras").mkdir(parents=True)
    shutil.copy(HOUSE / "sketch-lora" / LORA_FILE, models_dir / "image" / "loras" / "mine.safetensors")

    def listed() -> bool:
        return "mine" in [model["name"] for model in requests.get(f"{base_url}/models/status").json()["models"]]

    wait_until(listed, 20, "the new LoRA in the catalog")
    plain, mine, house = (
        requests.post(f"{base_url}/generate", json=body | {"loras": loras}).json()
        for loras in ([], [{"name": "mine"}], [{"name": "house-sketch"}])
    )
    assert [made["model_info"]["lora_applied"] for made in (plain, mine, house)] == [False, True, True]
    shown = [Image.open(io.BytesIO(base64.b64decode(made["images"][0].split(",")[1]))) for made in (plain, mine, house)]
    assert shown[1].tobytes() == shown[2].tobytes() != shown[0].tobytes()


def test_the_examples_are_the_references(base_url: str) -> None:
    examples = requests.get(f"{base_url}/examples").json()["examples"]
    assert [example["name"] for example in examples] == ["Abstract Art", "Minimalist Design", "Gradient Background"]
    assert all(set(example) == {"name", "prompt", "negative_prompt"} for example in examples)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompt"),
        ({"prompt": "  "}, "prompt"),
        ({"prompt": "x", "num_inference_steps": 0}, "num_inference_steps"),
        ({"prompt": "x", "num_inference_steps": 101}, "num_inference_steps"),
        ({"prompt": "x", "guidance_scale": 0.5}, "guidance_scale"),
        ({"prompt": "x", "guidance_scale": 20.5}, "guidance_scale"),
        ({"prompt": "x", "width": 255}, "width"),
        ({"prompt": "x", "width": 260}, "width"),
        ({"prompt": "x", "height": 1032}, "height"),
        ({"prompt": "x", "num_images": 5}, "num_images"),
        ({"prompt": "x", "seed": -1}, "seed"),
        ({"prompt": "x", "seed": "7"}, "seed"),
        ({"prompt": "x", "priority": 10}, "priority"),
        ({"prompt": "x", "colour": "red"}, "colour"),
        ({"prompt": "x", "num_images": True}, "num_images"),
        ({"prompt": "x", "loras": [{"name": "house-sketch", "weight": 3}]}, "loras.0.weight"),
        ({"prompt": "x", "loras": [{"name": "nobody"}]}, "loras.0.name"),
    ],
)
def test_invalid_parameters_are_400_and_named(base_url: str, body: dict, field: str) -> None:
    answer = requests.post(f"{base_url}/generate", json=body)
    assert answer.status_code == 400
    problem = answer.json()
    assert problem["details"]["field"] == field
    assert answer.headers["content-type"] == "application/problem+json"
    assert isinstance(problem["detail"], str)
    assert problem["success"] is False


def test_an_array_is_sent_to_the_batch_path(base_url: str) -> None:
    answer = requests.post(f"{base_url}/generate", json=[{"prompt": "x"}])
    assert (answer.status_code, answer.json()["details"]["field"]) == (400, "body")
    assert "/generate/batch" in answer.json()["message"]


def test_ranges_are_told(base_url: str) -> None:
    problem = requests.post(f"{base_url}/generate", json={"prompt": "x", "width": 2000}).json()
    assert problem["message"] == "Invalid width. Must be between 256 and 1024."
    assert problem["details"]["valid_range"] == [256, 1024]
    assert problem["details"]["provided"] == 2000
