"""Reference API 000: the examples of its documentation, at its addresses, synchronously and as jobs."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from PIL import Image

from tests.platform import TERMINAL, Platform, wait_until
from workers.avatar.aetherist import CameraConfig

# From the reference's documentation, word for word.
AVATAR = {
    "num_views": 4,
    "resolution": 512,
    "seed": 42,
    "truncation_psi": 0.8,
    "camera_config": {"radius": 2.5, "elevation_range": [-0.2, 0.4], "azimuth_range": [0, 6.28]},
    "style_config": {"age": "young", "gender": "female", "expression": "smile", "hair_color": "brown"},
    "output_format": "png",
}
STYLE = {
    "style_weight": 0.7,
    "preserve_identity": True,
    "num_views": 1,
    "resolution": 512,
    "base_attributes": {"age": "young", "gender": "male"},
}
BATCH = {
    "requests": [
        {"style_config": {"age": "young", "gender": "female"}, "num_views": 2},
        {"style_config": {"age": "elderly", "gender": "male"}, "num_views": 4},
    ],
    "resolution": 512,
    "output_format": "png",
}
CUSTOM = {
    "latent_code": [0.01 * n - 2.5 for n in range(512)],
    "camera_params": CameraConfig.create_front_view()[0].tolist(),
    "num_views": 1,
    "resolution": 512,
}
SMALL = {"resolution": 64, "seed": 1}


@pytest.fixture(scope="module")
def platform(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    slow = {"ATELIER_LEASE_SECONDS": "20", "ATELIER_HEARTBEAT_SECONDS": "2"}
    platform = Platform({**environment, **slow}, tmp_path_factory.mktemp("logs"))
    try:
        yield platform.start()
    finally:
        platform.close()


@pytest.fixture(scope="module")
def base_url(platform: Platform) -> str:
    return f"http://127.0.0.1:{platform.port}"


@pytest.fixture(scope="module")
def style_image() -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((320, 240)).save(out, "JPEG")
    return out.getvalue()


def opened(image: str) -> Image.Image:
    assert not image.startswith("data:"), "plain base64"
    return Image.open(io.BytesIO(base64.b64decode(image, validate=True)))


def finished(base_url: str, request_id: str) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        told = requests.get(f"{base_url}/status/{request_id}").json()
        return told if told["status"] in TERMINAL else None

    return wait_until(ended, 120, "the job's end")


def test_the_avatar_of_its_documentation(base_url: str) -> None:
    answer = requests.post(f"{base_url}/sync/generate/avatar", json=AVATAR)
    assert answer.status_code == 200, answer.text
    data = answer.json()
    assert data["status"] == "success"
    assert isinstance(data["request_id"], str)
    assert data["generation_time"] > 0
    assert [opened(image).size for image in data["images"]] == [(512, 512)] * 4
    assert len(set(data["images"])) == 4
    told = data["metadata"]
    assert (told["resolution"], told["num_views"], told["model_version"]) == (512, 4, "1.0.0")


def test_the_same_as_a_job_with_status_and_results(base_url: str) -> None:
    accepted = requests.post(f"{base_url}/generate/avatar", json=AVATAR | {"resolution": 128})
    assert accepted.status_code == 202
    request_id = accepted.json()["request_id"]
    told = finished(base_url, request_id)
    assert (told["status"], told["progress"], told["estimated_remaining"]) == ("completed", 100, 0)
    assert told["result_url"] == f"/results/{request_id}"
    answer = requests.get(f"{base_url}{told['result_url']}", headers={"Accept": "application/zip"})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        pictures = [name for name in archive.namelist() if name.endswith(".png")]
        assert len(pictures) == 4
        assert {Image.open(archive.open(name)).size for name in pictures} == {(128, 128)}


def test_the_custom_latent_of_its_documentation(base_url: str) -> None:
    data = requests.post(f"{base_url}/sync/generate/custom", json=CUSTOM).json()
    assert [opened(image).size for image in data["images"]] == [(512, 512)]
    assert data["metadata"]["seed"] is None
    assert data["metadata"]["cameras"] == [pytest.approx(CUSTOM["camera_params"], abs=1e-5)]


def test_the_style_transfer_of_its_documentation(base_url: str, style_image: bytes) -> None:
    form = {"files": {"style_image": ("style.jpg", style_image, "image/jpeg")}, "data": {"config": json.dumps(STYLE)}}
    answer = requests.post(f"{base_url}/sync/generate/style-transfer", **form)
    assert answer.status_code == 200, answer.text
    assert [opened(image).size for image in answer.json()["images"]] == [(512, 512)]
    small = json.dumps(STYLE | {"resolution": 64, "num_views": 3})
    accepted = requests.post(
        f"{base_url}/generate/style-transfer", files={"style_image": style_image}, data={"config": small}
    )
    assert accepted.status_code == 202, accepted.text
    assert finished(base_url, accepted.json()["request_id"])["status"] == "completed"


def test_the_style_picture_may_come_as_text(base_url: str, style_image: bytes) -> None:
    small = STYLE | {"resolution": 64, "num_views": 1, "seed": 3}
    config = json.dumps(small)
    url = f"{base_url}/sync/generate/style-transfer"
    part = requests.post(url, files={"style_image": style_image}, data={"config": config})
    text = base64.b64encode(style_image).decode()
    in_json = requests.post(url, json=small | {"style_image": f"data:image/jpeg;base64,{text}"})
    assert part.status_code == in_json.status_code == 200, in_json.text
    assert in_json.json()["images"] == part.json()["images"]
    reference = f"job:{part.json()['request_id']}/view_000.png"
    again = requests.post(url, json=small | {"style_image": reference})
    assert again.status_code == 200, again.text


def test_the_batch_of_its_documentation(base_url: str) -> None:
    data = requests.post(f"{base_url}/sync/generate/batch", json=BATCH | {"resolution": 64}).json()
    assert [(item["index"], item["success"]) for item in data["results"]] == [(0, True), (1, True)]
    assert [len(item["images"]) for item in data["results"]] == [2, 4]
    assert [opened(image).size for image in data["images"]] == [(64, 64)] * 6
    assert data["metadata"] == {"resolution": 64, "num_requests": 2, "total_images": 6}


def test_an_array_is_still_the_other_references_batch(base_url: str) -> None:
    answer = requests.post(f"{base_url}/generate/batch", json=[{"prompt": "a red ring", "num_inference_steps": 1}])
    assert answer.status_code == 202
    job = requests.get(f"{base_url}/jobs/{answer.json()['request_id']}").json()
    assert job["operation"] == "image.generate_batch"


def test_the_error_of_its_documentation(base_url: str) -> None:
    for prefix in ("", "/sync"):
        answer = requests.post(f"{base_url}{prefix}/generate/avatar", json=AVATAR | {"resolution": 2048})
        assert answer.status_code == 400
        data = answer.json()
        assert data["error"] == "validation_error"
        assert data["message"] == "Invalid resolution. Must be between 64 and 1024."
        details = data["details"]
        assert (details["field"], details["provided"], details["valid_range"]) == ("resolution", 2048, [64, 1024])


@pytest.mark.parametrize(
    ("change", "field", "valid_range"),
    [
        ({"num_views": 17}, "num_views", [1, 16]),
        ({"num_views": 0}, "num_views", [1, 16]),
        ({"truncation_psi": 1.5}, "truncation_psi", [0, 1]),
        ({"seed": -1}, "seed", [0, 2**63 - 1]),
        ({"camera_config": {"radius": 0.5}}, "camera_config.radius", [1.8, 10]),
        ({"camera_config": {"elevation_range": [0.4, -0.2]}}, "camera_config.elevation_range", None),
        ({"camera_config": {"azimuth_range": [0]}}, "camera_config.azimuth_range", None),
        ({"style_config": {"age": "ancient"}}, "style_config.age", None),
        ({"style_config": {"hair_color": "transparent"}}, "style_config.hair_color", None),
        ({"output_format": "bmp"}, "output_format", None),
        ({"model": "nobody"}, "model", None),
        ({"colour": "red"}, "colour", None),
    ],
)
def test_a_bad_field_is_named(
    base_url: str, change: dict[str, Any], field: str, valid_range: list[float] | None
) -> None:
    answer = requests.post(f"{base_url}/generate/avatar", json=SMALL | change)
    assert answer.status_code == 400, answer.text
    details = answer.json()["details"]
    assert details["field"] == field
    if valid_range:
        assert details["valid_range"] == valid_range


def test_a_bad_request_of_a_batch_is_named(base_url: str) -> None:
    answer = requests.post(f"{base_url}/generate/batch", json={"requests": [{}, {"num_views": 99}]})
    assert answer.status_code == 400
    assert answer.json()["details"]["field"] == "requests.1.num_views"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"camera_params": [0.0] * 24}, "25 numbers"),
        ({"camera_params": [2.0, *CUSTOM["camera_params"][1:]]}, "view 0: the rotation is not orthonormal"),  # type: ignore[misc]
        ({"latent_code": [0.1] * 511}, "512"),
        ({"num_views": 2}, "num_views"),
    ],
)
def test_a_bad_latent_or_camera_is_named(base_url: str, change: dict[str, Any], words: str) -> None:
    answer = requests.post(f"{base_url}/generate/custom", json=CUSTOM | change)
    assert answer.status_code == 400
    assert words in answer.text


def test_health_knows_the_model(base_url: str) -> None:
    requests.post(f"{base_url}/sync/generate/avatar", json=SMALL)
    health = requests.get(f"{base_url}/health").json()
    assert (health["status"], health["version"]) == ("healthy", "1.0.0")
    assert health["model_loaded"] is True
    assert isinstance(health["gpu_available"], bool)
    names = [model["name"] for model in requests.get(f"{base_url}/models/status").json()["models"]]
    assert "house-heads" in names
