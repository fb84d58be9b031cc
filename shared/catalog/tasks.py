"""Which family serves which task. Tasks are called as the Hugging Face hub calls them, where it has a word."""

from __future__ import annotations

TEXT_TO_SPEECH, SPEECH_RECOGNITION = "text-to-speech", "automatic-speech-recognition"

FAMILIES = {
    "text-to-image": "image",
    "image-to-image": "reference",
    "avatar": "avatar",
    "image-to-3d": "human3d",
    TEXT_TO_SPEECH: "speech",
    SPEECH_RECOGNITION: "speech",
    "text-classification": "predict",
    "image-classification": "predict",
    "feature-extraction": "predict",
    "fill-mask": "predict",
    "zero-shot-classification": "predict",
    "summarization": "predict",
    "text-generation": "predict",
    "tabular-regression": "predict",
    "onnx": "predict",  # a file with its own inputs and outputs, whatever it does
}


def family_of(task: str) -> str | None:
    """The family that serves this task; None if none does."""
    return FAMILIES.get(task)
