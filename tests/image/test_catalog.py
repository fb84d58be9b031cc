"""Which folders are served, and which are refused because loading them would run somebody's code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workers.image.catalog import find_adapters, find_models, read_model

GOOD = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}


def folder(path: Path, index: object, weights: str = "diffusion_pytorch_model.safetensors") -> Path:
    (path / "unet").mkdir(parents=True)
    (path / "unet" / weights).write_bytes(b"")
    (path / "model_index.json").write_text(json.dumps(index))
    return path


def test_models_and_loras_are_found_by_name(models_dir: Path) -> None:
    assert {"tiny", "tiny-half"} <= set(find_models())
    assert find_models()["tiny-half"].variant == "fp16"
    assert {"warm", "cold.v2", "misfit"} <= set(find_adapters())


@pytest.mark.parametrize(
    ("index", "weights"),
    [
        ({**GOOD, "_class_name": "EvilPipeline"}, "diffusion_pytorch_model.safetensors"),
        ({**GOOD, "unet": ["my_code", "Net"]}, "diffusion_pytorch_model.safetensors"),
        (GOOD, "diffusion_pytorch_model.bin"),
    ],
    ids=["unknown class", "code of its own", "pickles only"],
)
def test_folders_that_could_run_code_are_refused(tmp_path: Path, index: object, weights: str) -> None:
    assert read_model("x", folder(tmp_path / "x", index, weights)) is None
    assert read_model("x", folder(tmp_path / "good", GOOD)) is not None


def test_a_folder_without_an_index_is_no_model(tmp_path: Path) -> None:
    assert read_model("x", tmp_path) is None
