"""Which models of this family lie on this machine, and what each does. No torch: workers report it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.family import ModelCard
from shared.settings import get_settings
from workers.foreign_code import foreign_code
from workers.model_folders import SOURCE_FILE, describe, json_object, tell_skipped
from workers.predict.parameters import TAKES

HOUSE_MODEL, HOUSE_TASK = "example", "tabular-regression"
HOUSE = Path(__file__).parent / "house" / "weights" / "example"
CARDS = ("atelier.json", SOURCE_FILE)  # what an operator, and what a download, says of the folder
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
        card = (json_object(path / name) or {}) | card
    task, reason = _task(path, card)
    if task is None:
        tell_skipped(path, reason)
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


def _task(path: Path, card: Mapping[str, Any]) -> tuple[str | None, str]:
    """What the folder's model does, or None and why it is not served."""
    if problem := foreign_code(path):
        return None, problem
    if any(path.glob("*.onnx")):
        return ("onnx", "") if len(list(path.glob("*.onnx"))) == 1 else (None, "it has more than one .onnx file")
    config = json_object(path / "config.json")
    if config is None:
        return None, "neither a .onnx file nor a config.json with an object"
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


def is_entailment(label: str) -> bool:
    """Whether this label of a classifier says that the second sentence follows from the first."""
    return label.lower().startswith("entail")
