"""What models do, a file a task. A task's libraries are imported when the first model of its kind is loaded."""

from __future__ import annotations

from importlib import import_module

from workers.predict.catalog import PredictModel
from workers.predict.tasks.task import Task

TASKS = {
    "tabular-regression": "example:Example",
    "onnx": "onnx_model:OnnxModel",
    "text-classification": "text_classification:TextClassification",
    "image-classification": "image_classification:ImageClassification",
    "feature-extraction": "feature_extraction:FeatureExtraction",
    "fill-mask": "fill_mask:FillMask",
    "zero-shot-classification": "zero_shot:ZeroShotClassification",
    "summarization": "summarization:Summarization",
    "text-generation": "text_generation:TextGeneration",
}


def load_task(model: PredictModel, device: str) -> Task:
    """The model, loaded onto the device; raises ModelMissing."""
    module, name = TASKS[model.task].split(":")
    kind: type[Task] = getattr(import_module(f"{__name__}.{module}"), name)
    return kind(model, device)
