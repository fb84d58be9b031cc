"""Downloads through the real platform: a worker of their own, killed and cancelled in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models.conftest import hub_environment
from tests.models.hub_server import TOKEN, FakeHub, safetensors, serving_hub, stalling, transformer
from tests.platform import Platform, kill_child, wait_until

DOWNLOAD = {"source": "huggingface", "model_id": "acme/bert", "name": "bert", "task": "fill-mask"}
NUMBERS = 400_000  # of a tensor: 1.6 MB
SENT = 600_000  # bytes before the server falls silent


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    with serving_hub() as fake:
        fake.add("acme/bert", transformer(1, NUMBERS))
        yield fake


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def platform(
    environment: dict[str, str], hub: FakeHub, models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    own = {"ATELIER_FAMILIES": "models", "DEVICE": "cpu", "ATELIER_IMPORT_DIR": ""}
    platform = Platform({**environment, **hub_environment(hub, models_dir), **own}, tmp_path_factory.mktemp("logs"))
    try:
        yield platform.start()
    finally:
        platform.close()


def begin(platform: Platform, **more: Any) -> dict[str, Any]:
    answer = platform.client.post("/models/download", json=DOWNLOAD | more)
    assert answer.status_code == 202, answer.text
    return answer.json()


def halfway(platform: Platform, job_id: str) -> dict[str, Any]:
    """The job's status when the server has fallen silent."""
    return wait_until(lambda: (s := platform.status(job_id))["step"] and s["step"] >= SENT and s, 30, "half a download")


def test_a_killed_worker_goes_on_by_range(platform: Platform, hub: FakeHub, models_dir: Path) -> None:
    weights = safetensors(1, NUMBERS)
    hub.trouble["@model.safetensors"] = [stalling(weights, SENT)]
    begun = begin(platform)
    job_id = begun["job_id"]
    assert {key: begun[key] for key in ("success", "download_id", "model_name", "source", "model_id", "status")} == {
        **{"success": True, "download_id": job_id, "model_name": "bert", "source": "huggingface"},
        **{"model_id": "acme/bert", "status": "downloading"},
    }
    status = halfway(platform, job_id)
    assert status["total_steps"] > len(weights)
    maps = Path(f"/proc/{platform.child().pid}/maps").read_text()
    assert "libtorch" not in maps
    kill_child(platform)
    ended = platform.finished(job_id)
    assert (ended["status"], ended["attempt"]) == ("completed", 2)
    assert [headers.get("Range") for headers in hub.requests("safetensors", hub.files)] == [None, f"bytes={SENT}-"]
    assert (models_dir / "predict" / "bert" / "model.safetensors").read_bytes() == weights
    reply = platform.client.get(f"/results/{job_id}", headers={"Accept": "application/json"}).json()
    assert (reply["status"], reply["download_info"]["family"]) == ("completed", "predict")
    again = platform.client.post("/sync/models/download", json=DOWNLOAD)
    assert (again.status_code, again.json()["status"]) == (200, "already_exists")


def test_a_cancelled_download_ends_although_the_server_is_silent(
    platform: Platform, hub: FakeHub, models_dir: Path
) -> None:
    hub.trouble["@model.safetensors"] = [stalling(safetensors(1, NUMBERS), SENT)]
    job_id = begin(platform, name="other")["job_id"]
    halfway(platform, job_id)
    assert platform.client.post(f"/jobs/{job_id}/cancel").status_code == 202
    assert platform.finished(job_id, 5)["status"] == "cancelled"  # the server would have been silent for a minute
    assert not (models_dir / ".partial" / "other").exists()
    assert not (models_dir / "predict" / "other").exists()


def test_what_cannot_work_is_refused_or_fails_with_its_code(platform: Platform, hub: FakeHub) -> None:
    refused = platform.client.post("/models/download", json=DOWNLOAD | {"source": "torchvision"})
    assert (refused.status_code, refused.json()["details"]["field"]) == (400, "source")
    assert "huggingface" in refused.json()["message"]
    strange = platform.client.post("/models/download", json=DOWNLOAD | {"model_id": "stranger/bert"})
    assert (strange.status_code, strange.json()["details"]["field"]) == (400, "model_id")
    assert platform.client.post("/models/import", json={"path": "x", "name": "x", "task": "lora"}).status_code == 503
    failed = platform.finished(begin(platform, model_id="acme/none", name="none")["job_id"])
    assert (failed["status"], failed["attempt"], failed["error"]["code"]) == ("failed", 1, "hub_refused")
    logs = "".join(path.read_text() for path in platform.logs.iterdir())
    assert "hub_refused" in logs
    assert TOKEN not in logs
