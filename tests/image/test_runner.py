"""The image runner on a true, tiny pipeline: seeds, progress, cancellation, schedulers, LoRAs, sizes, metadata."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from PIL import Image

from tests.image.conftest import RecordedJob
from workers.image.runner import ImageRunner
from workers.image.spec import BatchInput, GenerateInput
from workers.runtime.runner import InputRejected, JobStopped, ModelMissing


def picture(job: RecordedJob, name: str = "image_0.png") -> Image.Image:
    return Image.open(io.BytesIO(job.files[name]))


def test_the_same_request_and_seed_make_the_same_bytes(draw: Any) -> None:
    assert draw()[0].files == draw()[0].files
    assert draw(seed=6)[0].files != draw()[0].files


def test_picture_i_uses_seed_plus_i_however_many_there_are(draw: Any) -> None:
    several, output = draw(num_images=2)
    assert output["model_info"]["seeds"] == [5, 6]
    assert several.files["image_1.png"] == draw(seed=6)[0].files["image_0.png"]


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a blue star"},
        {"negative_prompt": "a green ring"},
        {"num_inference_steps": 4},
        {"guidance_scale": 2.0},
        {"width": 320},
        {"height": 320},
        {"scheduler": "euler"},
        {"loras": [{"name": "warm"}]},
    ],
    ids=str,
)
def test_every_field_changes_the_picture(draw: Any, change: dict[str, Any]) -> None:
    before, after = picture(draw()[0]), picture(draw(**change)[0])
    assert before.size != after.size or before.tobytes() != after.tobytes()


def test_progress_counts_every_step_of_every_picture(draw: Any) -> None:
    job, _ = draw(num_images=2)
    assert job.steps == [(n, 6) for n in range(1, 7)]


def test_a_job_stops_at_its_next_step_and_the_runner_stays_usable(draw: Any) -> None:
    before = draw()[0].files
    with pytest.raises(JobStopped):
        draw(RecordedJob(stop_at=2))
    assert draw()[0].files == before


def test_previews_are_small_jpegs_made_only_when_wanted(draw: Any) -> None:
    assert draw()[0].previews == []
    job = RecordedJob()
    job.wants_preview = True
    plain = draw()[0].files
    draw(job)
    small = Image.open(io.BytesIO(job.previews[0]))
    assert (small.format, max(small.size) <= 256) == ("JPEG", True)
    assert job.files == plain, "looking does not change the picture"


def test_sizes_are_exact_even_off_the_models_grid(draw: Any) -> None:
    assert picture(draw(width=264, height=520)[0]).size == (264, 520)


def test_metadata_makes_the_picture_again(draw: Any) -> None:
    job, _ = draw(loras=[{"name": "warm", "weight": 0.5}], scheduler="unipc")
    held = json.loads(picture(job).text["atelier"])  # type: ignore[attr-defined]
    fields = {k: v for k, v in held.items() if k in GenerateInput.model_fields}
    assert draw(**fields)[0].files == job.files
    assert len(held["model_sha256"]) == 64
    assert held["lora_applied"] is True


def test_every_scheduler_runs(draw: Any) -> None:
    names = GenerateInput.model_json_schema()["properties"]["scheduler"]["anyOf"][0]["enum"]
    made = {name: picture(draw(scheduler=name, num_inference_steps=4)[0]).tobytes() for name in names}
    assert len(made) == 10
    assert len(set(made.values())) >= 6, "they are not one and the same"


def test_loras_switch_mix_and_leave_no_trace(draw: Any) -> None:
    plain = draw()[0].files
    warm, info = draw(loras=[{"name": "warm"}])
    assert info["model_info"]["lora_applied"] is True
    both, _ = draw(loras=[{"name": "warm"}, {"name": "cold.v2", "weight": 0.7}])
    zero = draw(loras=[{"name": "warm", "weight": 0.0}])[0]
    again, output = draw()
    assert again.files == plain
    assert output["model_info"]["lora_applied"] is False
    assert picture(zero).tobytes() == picture(RecordedJobOf(plain)).tobytes()
    assert len({picture(job).tobytes() for job in (warm, both, again)}) == 3


def RecordedJobOf(files: dict[str, bytes]) -> RecordedJob:
    job = RecordedJob()
    job.files = files
    return job


@pytest.mark.parametrize("name", ["misfit", "nobody"])
def test_a_lora_that_does_not_fit_is_refused_and_leaves_no_trace(draw: Any, name: str) -> None:
    plain = draw()[0].files
    with pytest.raises(InputRejected, match=name):
        draw(loras=[{"name": name}])
    again, output = draw()
    assert again.files == plain
    assert output["model_info"]["lora_applied"] is False


def test_an_item_that_fails_does_not_touch_the_others(runner: ImageRunner) -> None:
    small = {"prompt": "x", "num_inference_steps": 2, "width": 256, "height": 256, "seed": 1, "model": "tiny"}
    items = [GenerateInput(**small), GenerateInput(**{**small, "loras": [{"name": "misfit"}]}), GenerateInput(**small)]  # type: ignore[arg-type]
    job = RecordedJob()
    results = runner.run(BatchInput(items=items), job)["items"]
    assert [item["success"] for item in results] == [True, False, True]
    assert "misfit" in results[1]["error"]
    assert set(job.files) == {"item_0/image_0.png", "item_2/image_0.png"}
    assert job.steps[-1] == (6, 6)


def test_a_half_precision_folder_is_recognised_by_its_names(models_dir: Any) -> None:
    half = ImageRunner()
    half.setup("cpu", "tiny-half")
    assert half.status()["loaded"] is True
    half.close()


def test_a_missing_model_is_named(models_dir: Any) -> None:
    with pytest.raises(ModelMissing, match="no-such"):
        ImageRunner().setup("cpu", "no-such")


def test_damaged_weights_are_a_missing_model(models_dir: Any) -> None:
    import shutil

    broken = models_dir / "image" / "broken"
    shutil.copytree(models_dir / "image" / "tiny", broken)
    (broken / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"not weights")
    try:
        with pytest.raises(ModelMissing, match="broken"):
            ImageRunner().setup("cpu", "broken")
    finally:
        shutil.rmtree(broken)
