"""The bodies of the lists of models, from one overview."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from services.gateway.models.overview import Overview, fetch_state
from shared.catalog.available import AVAILABLE, AvailableModel
from shared.catalog.queries import ModelView
from shared.catalog.tasks import SPEECH_RECOGNITION, TEXT_TO_SPEECH

SPECIALIZED = {
    "tts_models": TEXT_TO_SPEECH,
    "stt_models": SPEECH_RECOGNITION,
    "image_classification": "image-classification",
    "text_classification": "text-classification",
}
FULL = {"float32", "float64"}


def model_list(seen: Overview) -> dict[str, Any]:
    """GET /models."""
    models = seen.of_kind("model")
    told = {name: seen.describe(model) for name, model in models.items()}
    return {
        "success": True,
        "timestamp": datetime.now(UTC),
        "total_models": len(models),
        "models": list(models),
        "available_models": [name for name, model in models.items() if not model.disabled],
        "model_info": told,
        "models_info": {name: _summary(model) for name, model in models.items()},
        "specialized_models": {key: _of_task(models, task) for key, task in SPECIALIZED.items()},
        "audio_models": {
            "tts_detailed": {name: told[name] for name in _of_task(models, TEXT_TO_SPEECH)},
            "loaded_audio_models": [n for n, model in models.items() if model.family == "speech" and told[n]["loaded"]],
        },
        "adapters": {name: seen.describe(model) for name, model in seen.of_kind("adapter").items()},
        "downloads": list(seen.missing()),
    }


def available(seen: Overview) -> dict[str, Any]:
    """GET /models/available."""
    speaking = [model for model in AVAILABLE if model.task == TEXT_TO_SPEECH]
    popular = sorted((m for m in speaking if m.usable and m.recommended), key=lambda model: model.size_bytes)
    return {
        "available_models": {model.name: _offer(seen, model) for model in AVAILABLE},
        "total_available": sum(model.usable for model in AVAILABLE),
        "categories": {
            "tts_models": [model.name for model in speaking],
            "general_models": [model.name for model in AVAILABLE if model.task != TEXT_TO_SPEECH],
        },
        "popular_tts_models": [model.name for model in popular],
        "download_recommendations": {
            key: [model.name for model in AVAILABLE if model.usable and key in model.recommended]
            for key in ("beginners", "advanced", "fast_setup", "highest_quality")
        },
    }


def managed(seen: Overview) -> dict[str, Any]:
    """GET /models/managed."""
    models = [_managed(seen, name, model) for name, model in seen.of_kind("model").items()]
    return {
        "total_models": len(models),
        "downloaded_models": models,
        "categories": {
            "tts_models": [model["name"] for model in models if model["is_tts"]],
            "other_models": [model["name"] for model in models if not model["is_tts"]],
        },
        "summary": {
            "total_loaded": sum(model["loaded"] for model in models),
            "tts_models_count": sum(model["is_tts"] for model in models),
            "optimized_count": sum(model["optimized"] is True for model in models),
            "total_parameters": _total(model["parameters"] for model in models),
        },
        "downloads": list(seen.missing()),
    }


def cache_info(seen: Overview, directory: str) -> dict[str, Any]:
    """GET /models/cache/info."""
    total = _total(model.size_bytes for model in seen.models)
    speaking = [model for model in seen.models if model.task == TEXT_TO_SPEECH]
    spoken = _total(model.size_bytes for model in speaking)
    return {
        "cache_directory": directory,
        "total_models": len(seen.models),
        "total_size_mb": _megabytes(total),
        "models": [_cached(model) for model in seen.models],
        "tts_specific": {
            "tts_models_count": len(speaking),
            "tts_models": [model.name for model in speaking],
            "tts_total_size_mb": _megabytes(spoken),
            "tts_percentage": round(100 * spoken / total, 2) if total else None,
        },
        "cache_optimization": _use(seen),
    }


def _summary(model: ModelView) -> dict[str, Any]:
    return {
        "display_name": model.title,
        "task": model.task,
        "category": model.family,
        "enabled": not model.disabled,
        "tts_enabled": model.task == TEXT_TO_SPEECH,
    }


def _of_task(models: Mapping[str, ModelView], task: str) -> list[str]:
    return [name for name, model in models.items() if model.task == task]


def _offer(seen: Overview, model: AvailableModel) -> dict[str, Any]:
    here = next((m for m in seen.models if (m.family, m.name) == (model.family, model.name)), None)
    gone = fetch_state(seen.fetches.get(model.name)) or "available"
    told = {key: value for key, value in asdict(model).items() if key not in ("repository", "max_text", "recommended")}
    return {
        **told,
        "state": seen.state(here) if here else gone,
        "model_id": model.repository,
        "size_mb": _megabytes(model.size_bytes),
        "tts_features": {"max_text": model.max_text} if model.task == TEXT_TO_SPEECH else None,
    }


def _managed(seen: Overview, name: str, model: ModelView) -> dict[str, Any]:
    holders = seen.holders(model)
    return {
        "name": name,
        "family": model.family,
        "state": seen.state(model),
        "loaded": bool(holders),
        "device": holders[0]["device"] if holders else None,
        "is_tts": model.task == TEXT_TO_SPEECH,
        "optimized": model.dtype not in FULL if model.dtype else None,
        "memory_usage": _total(held["memory_bytes"] for held in holders) if holders else None,
        "parameters": model.parameters,
    }


def _cached(model: ModelView) -> dict[str, Any]:
    return {
        "name": model.name,
        "family": model.family,
        "kind": model.kind,
        "files": len(model.files),
        "size_bytes": model.size_bytes,
        "size_mb": None if model.size_bytes is None else _megabytes(model.size_bytes),
    }


def _use(seen: Overview) -> dict[str, Any]:
    """Counted over the families that have models; a download, for one, is a job that needs none."""
    families = {model.family for model in seen.models}
    counts: Counter[str] = Counter()
    for worker in seen.workers:
        for family, used in worker.details.get("used", {}).items():
            if family in families:
                counts.update(used)
    return {
        "cache_hit_rate": round(counts["hits"] / counts["runs"], 4) if counts["runs"] else None,
        "loads": counts["loads"],
        "runs": counts["runs"],
        "optimization_enabled": any(worker.details.get("memory_budget_bytes") for worker in seen.workers),
        "auto_cleanup": False,
    }


def _total(values: Iterable[int | None]) -> int:
    return sum(value for value in values if value is not None)


def _megabytes(size: int) -> float:
    return round(size / 1e6, 3)
