"""Which folders are served: what a network is for is read from them, and none that brings code is opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from workers.predict.catalog import discover, find_models, read_model


def folder(path: Path, config: Any, **files: Any) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in {"config.json": config, **files}.items():
        (path / name.replace("__", ".")).write_text(content if isinstance(content, str) else json.dumps(content))
    (path / "model.safetensors").touch()
    return path


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ({"architectures": ["BertForSequenceClassification"]}, "text-classification"),
        (
            {"architectures": ["BartForSequenceClassification"], "label2id": {"ENTAILMENT": 2}},
            "zero-shot-classification",
        ),
        ({"architectures": ["ViTForImageClassification"]}, "image-classification"),
        ({"architectures": ["RobertaForMaskedLM"]}, "fill-mask"),
        ({"architectures": ["GPT2LMHeadModel"]}, "text-generation"),
        ({"architectures": ["LlamaForCausalLM"]}, "text-generation"),
        ({"architectures": ["T5ForConditionalGeneration"]}, "summarization"),
        ({"architectures": ["MPNetModel"]}, "feature-extraction"),
    ],
    ids=str,
)
def test_the_task_is_read_from_the_architecture(tmp_path: Path, config: dict[str, Any], task: str) -> None:
    model = read_model(folder(tmp_path / "m", config))
    assert model is not None
    assert model.task == task


def test_what_came_with_a_download_or_was_said_by_hand_wins(tmp_path: Path) -> None:
    path = folder(tmp_path / "m", {"architectures": ["BertModel"]}, **{"atelier-source__json": {"task": "fill-mask"}})
    assert read_model(path).task == "fill-mask"  # type: ignore[union-attr]
    (path / "atelier.json").write_text('{"task": "text-classification"}')
    assert read_model(path).task == "text-classification"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("config", "files"),
    [
        ("no JSON", {}),
        ([], {}),
        ({"architectures": ["BertForQuestionAnswering"]}, {}),
        ({"architectures": "BertModel"}, {}),
        ({"architectures": ["BertModel"], "auto_map": {"AutoModel": "theirs.Model"}}, {}),
        ({"architectures": ["BertModel"], "text_config": [{"_attn_implementation_internal": "x/y"}]}, {}),
        ({"architectures": ["BertModel"]}, {"tokenizer_config__json": {"auto_map": {}}}),
        ({"architectures": ["BertModel"]}, {"processor_config__json": {"image_processor": {"trust_remote_code": 1}}}),
        ({"architectures": ["BertModel"]}, {"config__5__0__0__json": {"auto_map": {}}}),
        ({"architectures": ["BertModel"]}, {"generation_config__json": "[" * 200 + "]" * 200}),
        ({"architectures": ["BertModel"]}, {"generation_config__json": "[" * 100_000}),
        ({}, {"model__onnx": "", "config__json": {"custom_pipeline": "theirs"}}),
        ({"architectures": ["BertModel"]}, {"atelier__json": {"task": "tabular-regression"}}),
        ({"architectures": ["BertModel"]}, {"atelier__json": {"task": ["fill-mask"]}}),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_skipped(tmp_path: Path, config: Any, files: dict[str, Any]) -> None:
    assert read_model(folder(tmp_path / "m", config, **files)) is None


def test_pickles_are_no_weights(tmp_path: Path) -> None:
    path = folder(tmp_path / "m", {"architectures": ["BertModel"]})
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    assert read_model(path) is None


def test_the_house_model_cannot_be_replaced(models_dir: Path) -> None:
    folder(models_dir / "predict" / "example", {"architectures": ["BertModel"]})
    try:
        assert find_models()["example"].task == "tabular-regression"
        cards = {card.name: card for card in discover()}
        assert (cards["example"].source, cards["rows"].task) == ("house", "onnx")
        assert cards["fill-mask"].memory_bytes == 4 * (cards["fill-mask"].parameters or 0) > 0
    finally:
        for file in (models_dir / "predict" / "example").iterdir():
            file.unlink()
        (models_dir / "predict" / "example").rmdir()
