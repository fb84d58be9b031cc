"""Which models of this family lie on this machine, and what each does. No torch: workers report it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from shared.family import ModelCard
from shared.logging import get_logger
from shared.settings import get_settings
from workers.model_folders import SOURCE_FILE, describe
from workers.predict.parameters import TAKES

log = get_logger(__name__)

HOUSE_MODEL, HOUSE_TASK = "example", "tabular-regression"
HOUSE = Path(__file__).parent / "house" / "weights" / "example"
CARDS = ("atelier.json", SOURCE_FILE)  # what an operator, and what a download, says of the folder
CONFIGS = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "generation_config.json")
# Keys by which a folder has code of its own run, or a kernel fetched.
FORBIDDEN = {
    *("auto_map", "trust_remote_code", "custom_pipeline", "_attn_implementation_internal"),
    *("_experts_implementation_internal", "attn_implementation_internal"),
}
# The end of a class's name → what such a network is for.
ARCHITECTURES = {
    "ForSequenceClassification": "text-classification",
    "ForImageClassification": "image-classification",
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForConditionalGeneration": "summarization",
    "Model": "feature-extraction",
}


@dataclass(frozen=True, slots=True)
class PredictModel:
    """A folder that can be served; `card` is what its atelier.json and atelier-source.json say."""

    name: str
    path: Path
    task: str
    card: Mapping[str, Any] = field(default_factory=dict)


def find_models() -> dict[str, PredictModel]:
    """The house model and every usable folder under MODELS/predict."""
    found = {HOUSE_MODEL: PredictModel(HOUSE_MODEL, HOUSE, HOUSE_TASK)}
    root = get_settings().models_dir / "predict"
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if path.is_dir() and path.name not in found and (model := read_model(path)):
            found[path.name] = model
    return found


def read_model(path: Path) -> PredictModel | None:
    """The folder if it can be served; else None, and the log says why."""
    card: dict[str, Any] = {}
    for name in CARDS:
        card = (_json_object(path / name) or {}) | card
    task, reason = _task(path, card)
    if task is None:
        _tell_skipped(str(path), reason)
        return None
    return PredictModel(path.name, path, task, card)


def onnx_file(path: Path) -> Path:
    """The folder's one .onnx file; raises ValueError if there is another number of them."""
    (file,) = path.glob("*.onnx")
    return file


def discover() -> tuple[ModelCard, ...]:
    """What this worker can serve."""
    return tuple(_cards())


def _cards() -> Iterator[ModelCard]:
    for model in find_models().values():
        house = model.name == HOUSE_MODEL
        title = "The house's example: ten numbers in, one out" if house else model.card.get("title")
        source, licence = ("house", "MIT") if house else (None, model.card.get("licence"))
        details = {"parameters": sorted(TAKES[model.task])}
        yield describe(
            "model",
            model.name,
            model.path,
            task=model.task,
            title=title,
            source=source,
            licence=licence,
            details=details,
        )


@lru_cache(maxsize=100)
def _tell_skipped(folder: str, reason: str) -> None:
    """Once a folder and reason: the disk is looked at every few seconds."""
    log.warning("model folder skipped", folder=folder, reason=reason)


def _task(path: Path, card: Mapping[str, Any]) -> tuple[str | None, str]:
    """What the folder's model does, or None and why it is not served."""
    if any(path.glob("*.onnx")):
        return ("onnx", "") if len(list(path.glob("*.onnx"))) == 1 else (None, "it has more than one .onnx file")
    config = _json_object(path / "config.json")
    if config is None:
        return None, "neither a .onnx file nor a config.json with an object"
    for name in CONFIGS:
        if keys := FORBIDDEN & set(_keys(_json_object(path / name))):
            return None, f"{name} would run code of its own: {', '.join(sorted(keys))}"
    if not any(path.glob("*.safetensors")):
        return None, "no safetensors"
    task = str(card.get("task") or _task_of(config))
    if task not in TAKES or task in (HOUSE_TASK, "onnx"):
        return None, f"its task is none that is served here: {task}"
    return task, ""


def _task_of(config: Mapping[str, Any]) -> str | None:
    """By the architecture's name; a classifier that knows entailment answers zero-shot questions."""
    architectures = config.get("architectures")
    name = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    task = next((task for end, task in ARCHITECTURES.items() if name.endswith(end)), None)
    labels = config.get("label2id")
    if task == "text-classification" and isinstance(labels, dict) and any(map(is_entailment, labels)):
        return "zero-shot-classification"
    return task


def _keys(value: Any) -> Iterator[str]:
    """All keys, at any depth."""
    for part in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
        yield from _keys(part)
    if isinstance(value, dict):
        yield from value


def is_entailment(label: str) -> bool:
    """Whether this label of a classifier says that the second sentence follows from the first."""
    return label.lower().startswith("entail")


def _json_object(path: Path) -> dict[str, Any] | None:
    """The object in this file; None if there is none. One broken folder must not hide the others."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
