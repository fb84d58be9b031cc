"""What a folder says that its network can hear, for its card and for the gateway's checks; read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workers.model_folders import json_object
from workers.speech.model import SpeechModel

WHISPER = "WhisperForConditionalGeneration"
SPELLING = "ForCTC"  # how the names of such architectures end
ENGLISH = ["en"]
TRANSCRIBE = ["transcribe"]


def ear_details(model: SpeechModel) -> dict[str, Any]:
    """`languages` (codes; none if nobody tells), `tasks`, `sample_rate` in Hz, and the `fields` that act on it."""
    architecture = model.config["architectures"][0]
    rate = {"sample_rate": _rate(model.folder)}
    if architecture == WHISPER:
        return _whisper(json_object(model.folder / "generation_config.json") or {}) | rate
    languages = model.card.get("languages")
    return {
        "languages": [str(code) for code in languages] if isinstance(languages, list) else [],
        "tasks": TRANSCRIBE,
        "fields": ["word_timestamps"] if architecture.endswith(SPELLING) else ["beam_size", "temperature"],
    } | rate


def _whisper(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A Whisper lists its languages and tasks; one that lists none knows English."""
    fields = ["beam_size", "temperature", "suppress_blank", "initial_prompt", "logprob_threshold"]
    fields += ["no_speech_threshold"] if settings.get("no_timestamps_token_id") else []
    fields += ["word_timestamps"] if settings.get("alignment_heads") else []
    languages = sorted(name.strip("<|>") for name in settings.get("lang_to_id") or {})
    if not languages or settings.get("is_multilingual") is False:
        return {"languages": ENGLISH, "tasks": TRANSCRIBE, "fields": fields}
    return {"languages": languages, "tasks": list(settings.get("task_to_id") or TRANSCRIBE), "fields": fields}


def _rate(folder: Path) -> int | None:
    """Either file may tell: processors have kept it in one or the other."""
    inside = (json_object(folder / "processor_config.json") or {}).get("feature_extractor")
    for found in (json_object(folder / "preprocessor_config.json"), inside):
        if isinstance(found, dict) and isinstance(found.get("sampling_rate"), int):
            return int(found["sampling_rate"])
    return None
