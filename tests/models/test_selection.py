"""Which of a repository's files make a model."""

from __future__ import annotations

import pytest

from workers.models.selection import Layout, select

SHARDS = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
INDEX = "model.safetensors.index.json"
HALVES = ["unet/diffusion_pytorch_model.fp16-00001-of-00001.safetensors", "vae/model.fp16.safetensors"]
PARTS = {"unet", "vae", "scheduler"}


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["config.json", "model.safetensors", "vocab.json", "spiece.model", "merges.txt"], "all"),
        (["config.json", *SHARDS, INDEX], "all"),
        (["config.json", "model.safetensors", *SHARDS, INDEX], ["config.json", "model.safetensors"]),
        (
            ["config.json", "model.safetensors", "model.fp16.safetensors", "consolidated.safetensors", "tf_model.h5"],
            ["config.json", "model.safetensors"],
        ),
        (
            ["config.json", "model.safetensors", "onnx/model.onnx", "onnx/config.json", ".hidden.json", "a b.json"],
            ["config.json", "model.safetensors"],
        ),
        (
            ["config.json", "model.safetensors", "pytorch_model.bin.index.json", "flax_config.json", "x.py", "y.npy"],
            ["config.json", "model.safetensors"],
        ),
    ],
)
def test_a_transformers_model(names: list[str], taken: list[str] | str) -> None:
    assert sorted(select(names, Layout.TRANSFORMERS)) == sorted(names if taken == "all" else taken)


def test_a_pipeline_whose_halves_are_not_complete_is_taken_whole() -> None:
    whole = [name.replace(".fp16", "") for name in HALVES]
    common = ["model_index.json", "scheduler/scheduler_config.json", "unet/config.json"]
    assert sorted(select([*common, *whole, *HALVES], Layout.DIFFUSERS, PARTS)) == sorted(common + HALVES)
    assert sorted(select([*common, *whole, HALVES[0]], Layout.DIFFUSERS, PARTS)) == sorted(common + whole)


def test_an_onnx_model_is_taken_from_where_exporters_put_it() -> None:
    names = ["config.json", "onnx/model.onnx", "onnx/model_quantized.onnx", "model.safetensors"]
    assert select(names, Layout.ONNX) == {"onnx/model.onnx": "model.onnx", "config.json": "config.json"}
