"""Which folders are served, and which are refused because loading them would run somebody's code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.settings import get_settings
from workers.foreign_code import foreign_code
from workers.image.catalog import LORA_FILE, default_model, discover, find_adapters, find_models, read_model
from workers.image.spec import GENERATE, GenerateInput

GOOD = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}


def folder(path: Path, index: object, weights: str = "diffusion_pytorch_model.safetensors") -> Path:
    for network in ("unet", "vae", "text_encoder"):
        (path / network).mkdir(parents=True)
        (path / network / weights).write_bytes(b"")
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


@pytest.mark.parametrize("name", ["unet/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json"])
def test_a_part_whose_configuration_brings_code_is_refused_until_it_does_not(tmp_path: Path, name: str) -> None:
    path = folder(tmp_path / "x", GOOD)
    config = path / name
    config.parent.mkdir(exist_ok=True)
    config.write_text('{"sub_configs": [{"_attn_implementation_internal": "theirs/kernel"}]}')
    assert read_model("x", path) is None
    assert foreign_code(path) == f"{name} has the key _attn_implementation_internal: it would run the model's own code"
    config.write_text('{"hidden_size": 32}')
    assert read_model("x", path) is not None


def test_a_part_that_lies_elsewhere_is_looked_at_as_well(tmp_path: Path) -> None:
    path = folder(tmp_path / "x", GOOD)
    elsewhere = (path / "unet").rename(tmp_path / "unet")
    (path / "unet").symlink_to(elsewhere)
    assert read_model("x", path) is not None
    (elsewhere / "config.json").write_text('{"auto_map": {}}')
    assert read_model("x", path) is None


def test_a_folder_without_an_index_is_no_model(tmp_path: Path) -> None:
    assert read_model("x", tmp_path) is None


def test_a_folder_with_one_pickled_network_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path / "x", GOOD)
    (path / "vae" / "diffusion_pytorch_model.safetensors").rename(path / "vae" / "diffusion_pytorch_model.bin")
    assert read_model("x", path) is None


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Settings whose ATELIER_MODELS_DIR is empty, or with the settings that are given."""

    def set_up(**settings: str) -> Path:
        for name, value in {"ATELIER_MODELS_DIR": str(tmp_path), **settings}.items():
            monkeypatch.setenv(name, value)
        get_settings.cache_clear()
        return tmp_path

    yield set_up
    monkeypatch.undo()
    get_settings.cache_clear()


@pytest.mark.parametrize(
    "index",
    [[], "text", {**GOOD, "unet": [["x"], "Net"]}, {**GOOD, "unet": []}, {**GOOD, "_class_name": ["a", "b"]}],
    ids=str,
)
def test_a_broken_folder_does_not_hide_the_others(shelf: Any, index: object) -> None:
    root = shelf()
    folder(root / "image" / "broken", index)
    good = folder(root / "image" / "good", GOOD)
    (good / "atelier.json").write_text("not JSON")
    assert "good" in {card.name for card in discover()}


def test_half_precision_shards_are_recognised(tmp_path: Path) -> None:
    shard = "diffusion_pytorch_model{}-00001-of-00002.safetensors"
    plain, half = read_model("x", folder(tmp_path / "a", GOOD, shard.format(""))), folder(tmp_path / "b", GOOD, "x")
    assert plain is not None
    assert plain.variant is None
    for network in ("unet", "vae", "text_encoder"):
        (half / network / "diffusion_pytorch_model.fp16.safetensors").touch()
    found = read_model("x", half)
    assert found is not None
    assert found.variant == "fp16"


def test_a_lora_is_a_file_or_a_folder_and_keeps_its_dots(shelf: Any) -> None:
    loras = shelf() / "image" / "loras"
    (loras / "folder.v2").mkdir(parents=True)
    (loras / "folder.v2" / LORA_FILE).touch()
    (loras / "file.v1.safetensors").touch()
    (loras / "pickle.ckpt").touch()
    assert set(find_adapters()) - {"house-sketch"} == {"folder.v2", "file.v1"}


def test_a_default_model_elsewhere_goes_by_its_folders_name(shelf: Any, tmp_path: Path) -> None:
    place = folder(tmp_path / "elsewhere" / "stable-diffusion-v1-5", GOOD)
    shelf(ATELIER_IMAGE_MODEL=str(place))
    assert default_model() == "stable-diffusion-v1-5"
    assert find_models()["stable-diffusion-v1-5"].path == place
    assert GENERATE.resolve(GenerateInput(prompt="x")).model == "stable-diffusion-v1-5"
