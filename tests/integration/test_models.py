"""The catalog over HTTP: what is listed of models, how they are loaded and unloaded, what operators do with them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.ids import new_id
from tests.integration.test_accounts import execute
from tests.platform import Platform, kill_child, wait_until
from workers.image.catalog import HOUSE, LORA_FILE

DRAW = {"prompt": "a red circle", "model": "house-shapes"}
FETCH = """
INSERT INTO jobs (id, owner, family, operation, input, state, turn, attempt, progress, error, lease_expires_at,
    lease_owner, started_at, finished_at)
VALUES (%s, %s, 'models', 'models.download', %s, %s, 1, 1, %s, %s,
    CASE WHEN %s = 'running' THEN now() + interval '1 hour' END, 'elsewhere/1', now(),
    CASE WHEN %s IN ('failed', 'cancelled') THEN now() END)
"""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder "models", and beside it "import" with a LoRA; one model was put there by hand."""
    root = tmp_path_factory.mktemp("shelf")
    for place in (root / "import", root / "models" / "image" / "loras"):
        place.mkdir(parents=True)
        shutil.copy(HOUSE / "sketch-lora" / LORA_FILE, place / "mine.safetensors")
    return root


@pytest.fixture(scope="module")
def platform(environment: dict[str, str], shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Gateway, coordinator and worker with these folders."""
    places = {"ATELIER_MODELS_DIR": str(shelf / "models"), "ATELIER_IMPORT_DIR": str(shelf / "import")}
    more = {"DEVICE": "cpu", "ATELIER_HUB_ENDPOINT": "http://127.0.0.1:9"}  # where no hub answers
    platform = Platform({**environment, **places, **more}, tmp_path_factory.mktemp("logs"))
    try:
        yield platform.start()
    finally:
        platform.close()


def fetch(platform: Platform, name: str, state: str, owner: str = "anonymous") -> str:
    """A job of another worker that downloads a model; a third of it is done."""
    job_id = str(new_id())
    done = {"attempt": 1, "progress": 33.0, "step": 1_000_000, "total_steps": 3_000_000}
    error = {"code": "fetch_refused", "message": "The hub has no such repository."}
    told = json.dumps({"name": name, "source": "huggingface", "model_id": "who/what"})
    failed = json.dumps(error) if state == "failed" else None
    execute(platform.environment, FETCH, job_id, owner, told, state, json.dumps(done), failed, state, state)
    return job_id


def add_model(platform: Platform, family: str, name: str) -> None:
    """A row as a worker elsewhere would have reported it."""
    row = "INSERT INTO models (family, kind, name, title, reported_by) VALUES (%s, 'model', %s, %s, 'elsewhere')"
    execute(platform.environment, row, family, name, name)


def manage(platform: Platform, action: str, name: str, **more: str) -> Any:
    return platform.client.post("/models/manage", params={"action": action, "model_name": name, **more})


def managed(platform: Platform, name: str) -> dict[str, Any]:
    models = platform.client.get("/models/managed").json()["downloaded_models"]
    return next(model for model in models if model["name"] == name)


def test_a_house_model_is_listed_with_what_its_files_say(platform: Platform) -> None:
    def hashed() -> Any:
        info = platform.client.get("/models/download/house-shapes/info").json()["info"]
        return info if all(file["sha256"] for file in info["files"]) else None

    info = wait_until(hashed, 30, "hashes of the house model")  # a later round of the worker's reports has them
    unet = next(file for file in info["files"] if file["name"] == "unet/diffusion_pytorch_model.safetensors")
    content = (HOUSE / "shapes" / unet["name"]).read_bytes()
    assert (unet["size"], unet["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert (info["state"], info["source"], info["licence"], info["dtype"]) == ("ready", "house", "MIT", "float16")
    assert info["memory_bytes"] == 2 * info["parameters"] > 10_000_000
    assert info["size_bytes"] == sum(file["size"] for file in info["files"])

    listed = platform.client.get("/models").json()
    assert {"house-shapes", "house-heads", "toy"} <= set(listed["models"])
    assert listed["total_models"] == len(listed["models"]) == len(listed["model_info"])
    assert listed["model_info"]["house-shapes"] == info
    assert listed["models_info"]["house-shapes"] == {
        "display_name": "House shapes",
        "task": "text-to-image",
        "category": "image",
        "enabled": True,
        "tts_enabled": False,
    }
    assert set(listed["adapters"]) == {"house-sketch", "mine"}
    assert listed["adapters"]["mine"]["files"][0]["name"] == "mine.safetensors"


def test_what_the_models_take_on_the_disk_is_added_up(platform: Platform) -> None:
    told = platform.client.get("/models/cache/info").json()
    house = next(model for model in told["models"] if model["name"] == "house-shapes")
    assert house["size_bytes"] == sum(file.stat().st_size for file in (HOUSE / "shapes").rglob("*") if file.is_file())
    assert told["total_size_mb"] == pytest.approx(sum(model["size_mb"] or 0 for model in told["models"]), abs=0.01)
    assert told["cache_directory"] == "models"


def test_a_model_is_loaded_before_it_is_needed_and_unloaded_again(platform: Platform) -> None:
    first = platform.client.post("/sync/models/toy/load").json()
    assert (first["model_name"], first["family"], first["already_loaded"]) == ("toy", "toy", False)
    assert platform.client.post("/models/toy/load?wait=30").json()["already_loaded"] is True
    later = platform.client.post("/models/toy/load")
    assert later.status_code == 202
    assert platform.finished(later.json()["job_id"])["operation"] == "toy.load"

    assert managed(platform, "toy")["loaded"] is True
    (held,) = platform.client.get("/models").json()["model_info"]["toy"]["loaded"]
    assert held["load_seconds"] == first["load_seconds"]
    assert (held["loads"], held["runs"]) == (1, 0)

    answer = platform.client.post("/models/toy/unload")
    assert answer.status_code == 200
    (told,) = answer.json()["workers"]
    assert told["unloaded"] is True
    assert told["freed_bytes"] == answer.json()["freed_bytes"] >= 0
    assert managed(platform, "toy")["loaded"] is False
    again = platform.client.post("/models/toy/unload")
    assert (again.status_code, again.json()["workers"]) == (200, [])
    refused = manage(platform, "optimize", "toy")
    assert refused.status_code == 400
    assert "no worker has it in memory" in refused.json()["detail"]


def test_a_busy_model_leaves_when_its_job_has_ended(platform: Platform) -> None:
    add_model(platform, "toy", "default")  # what toys run with
    platform.finished(platform.submit())
    job = platform.submit(steps=15, step_seconds=0.1)
    platform.running(job)
    assert managed(platform, "default")["loaded"] is True
    answer = platform.client.post("/models/default/unload")
    assert platform.finished(job)["status"] == "completed"
    assert (answer.status_code, answer.json()["workers"][0]["unloaded"]) == (200, True)
    assert managed(platform, "default")["loaded"] is False


def test_how_often_a_model_was_in_memory_is_counted(platform: Platform) -> None:
    def use() -> dict[str, Any]:
        return platform.client.get("/models/cache/info").json()["cache_optimization"]

    for _ in range(3):
        platform.finished(platform.submit())
    before = wait_until(lambda: (told := use())["runs"] >= 3 and told, 30, "runs")
    assert 0 < before["cache_hit_rate"] < 1
    platform.finished(platform.submit())
    after = wait_until(lambda: (told := use())["runs"] > before["runs"] and told, 30, "one more run")
    assert after["cache_hit_rate"] > before["cache_hit_rate"]
    assert after["loads"] == before["loads"]


def test_what_a_killed_child_had_loaded_is_loaded_no_more(platform: Platform) -> None:
    platform.client.post("/sync/models/toy/load")
    assert managed(platform, "toy")["loaded"] is True
    kill_child(platform)
    wait_until(lambda: not managed(platform, "toy")["loaded"], 30, "the report of an empty child")


def test_a_disabled_model_is_refused_until_it_is_enabled(platform: Platform) -> None:
    assert manage(platform, "disable", "house-shapes").json()["success"] is True
    for answer in (platform.client.post("/generate", json=DRAW), platform.client.post("/models/house-shapes/load")):
        assert answer.status_code == 503
        assert answer.json()["details"] == {"reason": "disabled", "model": "house-shapes"}
    assert managed(platform, "house-shapes")["state"] == "disabled"
    assert "house-shapes" not in platform.client.get("/models").json()["available_models"]
    assert manage(platform, "enable", "house-shapes").json()["success"] is True
    accepted = platform.client.post("/generate", json=DRAW)
    assert accepted.status_code == 202
    platform.client.post(f"/jobs/{accepted.json()['job_id']}/cancel")


@pytest.mark.parametrize(
    ("state", "shown"),
    [("queued", "pending"), ("running", "downloading"), ("failed", "failed"), ("cancelled", "cancelled")],
)
def test_how_far_a_download_is(platform: Platform, state: str, shown: str) -> None:
    name = f"coming-{state}"
    told = platform.client.get(f"/models/download/status/{fetch(platform, name, state)}").json()
    assert (told["status"], told["model_name"]) == (shown, name)
    if state == "running":
        assert (told["progress"], told["downloaded_bytes"], told["total_bytes"]) == (33.0, 1_000_000, 3_000_000)
    if state == "failed":
        assert (told["error"], told["message"]) == ("fetch_refused", "The hub has no such repository.")


def test_only_downloads_have_a_downloads_status_and_only_for_their_owner(platform: Platform) -> None:
    toy, foreign = platform.submit(), fetch(platform, "foreign", "queued", owner="somebody")
    answers = [platform.client.get(f"/models/download/status/{job}") for job in (toy, foreign, new_id())]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.json()["detail"] for answer in answers}) == 1


def test_everybody_sees_what_is_on_its_way(platform: Platform) -> None:
    fetch(platform, "on-its-way", "running", owner="somebody")
    fetch(platform, "broken", "failed", owner="somebody")
    fetch(platform, "given-up", "cancelled", owner="somebody")
    coming = {model["name"]: model for model in platform.client.get("/models/managed").json()["downloads"]}
    assert coming["on-its-way"]["state"] == "downloading"
    assert coming["on-its-way"]["progress"] == 33.0
    assert (coming["broken"]["state"], coming["broken"]["error"]) == ("failed", "fetch_refused")
    assert "given-up" not in coming
    assert platform.client.get("/models/download/on-its-way/info").json()["info"] == coming["on-its-way"]


def test_a_name_that_several_families_have_needs_the_family(platform: Platform) -> None:
    for family in ("image", "avatar"):
        add_model(platform, family, "twin")
    clash = platform.client.get("/models/download/twin/info")
    assert (clash.status_code, clash.json()["details"]) == (409, {"family": ["avatar", "image"]})
    found = platform.client.get("/models/download/twin/info?family=image").json()["info"]
    assert found["family"] == "image"
    assert {"avatar/twin", "image/twin"} <= set(platform.client.get("/models").json()["models"])


def test_an_import_that_failed_is_tried_again_and_its_model_deleted(platform: Platform, shelf: Path) -> None:
    def listed() -> bool:
        return "brought" in platform.client.get("/models").json()["adapters"]

    asked = {"path": "later.safetensors", "name": "brought", "task": "lora", "licence": "MIT"}
    job = platform.client.post("/models/import", json=asked).json()["job_id"]
    assert platform.finished(job)["status"] == "failed"
    assert platform.client.get(f"/models/download/status/{job}").json()["status"] == "failed"
    shutil.copy(shelf / "import" / "mine.safetensors", shelf / "import" / "later.safetensors")
    again = manage(platform, "retry_download", "brought")
    assert (again.status_code, again.json()["action"]) == (202, "retry_download")
    assert platform.finished(again.json()["job_id"])["status"] == "completed"
    assert manage(platform, "retry_download", "brought").status_code == 409
    wait_until(listed, 30, "the report of what was imported")
    info = platform.client.get("/models/download/brought/info").json()["info"]
    assert (info["kind"], info["source"], info["licence"]) == ("adapter", "import", "MIT")
    assert all(file["sha256"] for file in info["files"]), "the import has verified them"
    gone = platform.client.delete("/models/download/brought")
    assert (gone.status_code, gone.json()["model_name"]) == (200, "brought")
    assert gone.json()["freed_bytes"] == info["size_bytes"]
    assert not listed()
    assert not (shelf / "models" / "image" / "loras" / "brought").exists()
    assert platform.client.delete("/models/download/brought").status_code == 404


def test_what_was_put_there_by_hand_is_not_deleted(platform: Platform, shelf: Path) -> None:
    refused = platform.client.delete("/models/download/mine")
    assert refused.status_code == 409
    assert (shelf / "models" / "image" / "loras" / "mine.safetensors").is_file()


@pytest.mark.parametrize("forced", ["false", "true"])
def test_an_update_asks_for_the_newest_revision(platform: Platform, forced: str) -> None:
    name = f"downloaded-{forced}"
    add_model(platform, "speech", name)
    execute(
        platform.environment,
        "UPDATE models SET source = 'huggingface', repository = 'openai/what', revision = %s, task = 'text-to-speech', "
        """details = '{"vocoder": {"repository": "microsoft/voc"}}' WHERE name = %s""",
        "a" * 40,
        name,
    )
    answer = manage(platform, "update", name, force_redownload=forced)
    assert answer.status_code == 202, answer.text
    assert (answer.json()["action"], answer.json()["success"]) == ("update", True)
    job_id = answer.json()["job_id"]
    platform.client.post(f"/jobs/{job_id}/cancel")
    ((asked,),) = execute(platform.environment, "SELECT input FROM jobs WHERE id = %s", job_id)
    assert (asked["model_id"], asked["revision"], asked["force"]) == ("openai/what", None, forced == "true")
    assert asked["vocoder_model"] == "microsoft/voc"


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/models/download/nobody/info", 404, "Model not found: nobody"),
        ("DELETE", "/models/download/nobody", 404, "Model not found in cache: nobody"),
        ("DELETE", "/models/download/house-shapes", 409, "house-shapes is a house model: it is part of Atelier"),
        ("POST", "/models/nobody/load", 404, "Model not found: nobody"),
        ("POST", "/models/house-sketch/load", 404, "Model not found: house-sketch"),
        ("POST", "/models/nobody/unload", 404, "Model not found: nobody"),
        ("POST", "/models/manage?action=enable&model_name=nobody", 404, "Model not found: nobody"),
        ("POST", "/models/manage?action=polish&model_name=toy", 400, "Invalid action"),
        ("POST", "/models/manage?action=enable", 400, "Invalid model_name"),
        ("POST", "/models/manage?action=enable&model_name=toy&force_redownload=true", 400, "force_redownload does"),
        ("POST", "/models/manage?action=update&model_name=house-shapes", 400, "its source is house"),
        ("POST", "/models/manage?action=retry_download&model_name=nobody", 404, "You have downloaded no model nobody"),
    ],
)
def test_what_cannot_be_done_is_said(platform: Platform, method: str, path: str, status: int, said: str) -> None:
    answer = platform.client.request(method, path)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["detail"]


def test_a_paused_model_is_refused_until_somebody_resumes_it(platform: Platform) -> None:
    body, key = {"model": "brittle"}, {"Idempotency-Key": "before-it-was-paused"}
    before = platform.submit(**body, headers=key)
    execute(
        platform.environment,
        """INSERT INTO breakers (family, model, reason, crashed_jobs, paused_until)
        VALUES ('toy', 'brittle', 'model_unavailable', 5, now() + interval '1 minute')""",
    )
    told = platform.client.get("/models").json()["model_info"]
    assert told["toy"]["breaker"] is None
    assert (told["brittle"]["state"], told["brittle"]["breaker"]["crashed_jobs"]) == ("paused", 5)

    refused = platform.client.post("/toys/play", json=body)
    assert (refused.status_code, refused.json()["error"]) == (503, "model_paused")
    assert "5 different jobs found that it does not load" in refused.json()["message"]
    assert 50 < int(refused.headers["Retry-After"]) <= 60
    assert platform.client.post("/models/brittle/load").json()["error"] == "model_paused"
    assert "atelier_models_paused 1.0" in platform.client.get("/metrics", headers={"Accept": "text/plain"}).text
    replayed = platform.client.post("/toys/play", json=body, headers=key)
    assert (replayed.status_code, replayed.json()["job_id"]) == (202, before)
    platform.finished(platform.submit(model="toy"))

    resumed = platform.client.post("/models/brittle/resume").json()
    assert (resumed["was_paused"], resumed["family"]) == (True, "toy")
    platform.finished(platform.submit(**body))
    assert platform.client.post("/models/brittle/resume").json()["was_paused"] is False
    assert platform.client.post("/models/nobody-here/resume").status_code == 404


def test_a_queued_job_tells_what_it_waits_for(platform: Platform) -> None:
    running = platform.submit(steps=600, step_seconds=0.1)
    job = platform.submit(model="brittle")
    assert platform.status(job)["waits_for"] is None
    execute(platform.environment, f"UPDATE jobs SET run_after = now() + interval '1 hour' WHERE id = '{job}'")
    assert platform.status(job)["waits_for"] == "retry"
    execute(
        platform.environment,
        """INSERT INTO breakers (family, model, reason, crashed_jobs, paused_until)
        VALUES ('toy', 'brittle', 'worker_lost', 5, now() + interval '1 minute')
        ON CONFLICT (family, model) DO UPDATE SET closed_at = NULL, paused_until = excluded.paused_until""",
    )
    wait_until(lambda: platform.status(job)["waits_for"] == "model_paused", 10, "the gateway to hear of the pause")
    assert [known["waits_for"] for known in platform.client.get("/jobs").json()["jobs"][:2]] == ["model_paused", None]
    platform.client.post("/models/brittle/resume").raise_for_status()
    for each in (job, running):
        platform.client.post(f"/jobs/{each}/cancel").raise_for_status()
        platform.finished(each)
