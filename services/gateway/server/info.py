"""GET /info, part by part: what is served, how it does, whether it speaks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import psutil

from services.gateway.server.stats import WINDOW, average
from services.gateway.state import GatewayState
from shared.catalog.queries import ModelView
from shared.catalog.tasks import TEXT_TO_SPEECH
from shared.family import Family
from shared.fleet.queries import WorkerView
from shared.jobs.figures import Timings, timings
from shared.settings import Settings

SPEECH = "speech"


async def info(state: GatewayState, families: Mapping[str, Family]) -> dict[str, Any]:
    """The whole body."""
    workers, models = await state.fleet.workers(), await state.catalog.models()
    voices = [model for model in models if model.task == TEXT_TO_SPEECH and not model.disabled]
    speech = await timings(state.read_pool, SPEECH, WINDOW)
    return {
        "timestamp": datetime.now(UTC),
        "server_config": server_config(state.settings, families, voices),
        "performance_metrics": performance_metrics(workers, speech),
        "tts_service": tts_service(families, workers, voices),
    }


def server_config(settings: Settings, families: Mapping[str, Family], voices: Sequence[ModelView]) -> dict[str, Any]:
    """There are no levels of optimisation, and nothing optimises itself."""
    operations = [operation for family in families.values() for operation in family.operations]
    return {
        "optimization_level": None,
        "caching_strategy": "least_recently_used",
        "tts_backend": ", ".join(_told(voices, "engine")) or None,
        "auto_optimization": False,
        "server_features": [operation.name for operation in operations if operation.paths],
        "tts_configuration": {"models": [model.name for model in voices]},
        "performance_settings": {
            "max_batch": {operation.name: operation.max_batch for operation in operations if operation.paths},
            "queue_size": settings.queue_size,
            "memory_fraction": settings.memory_fraction,
            "model_memory_bytes": settings.model_memory_bytes,
        },
    }


def performance_metrics(workers: Sequence[WorkerView], speech: Timings) -> dict[str, Any]:
    """`system_metrics` are of the gateway's machine, `gpu_metrics` of the live workers' devices."""
    runs, hits = (sum(worker.details.get(name, 0) for worker in workers) for name in ("runs", "hits"))
    memory = psutil.virtual_memory()
    return {
        "cache_hit_rate": round(hits / runs, 4) if runs else None,
        "models_in_memory": sum(len(found) for worker in workers for found in _resident(worker).values()),
        "system_metrics": {
            "cpu_count": os.cpu_count(),
            "load_average": os.getloadavg(),
            "memory_total_mb": memory.total // 2**20,
            "memory_available_mb": memory.available // 2**20,
        },
        "gpu_metrics": [
            {"worker": worker.name, **{key: worker.details.get(key) for key in ("device", "gpu", "memory_mb")}}
            for worker in workers
            if worker.device.startswith("cuda")
        ],
        "tts_metrics": {
            "window_seconds": speech.window,
            "requests_processed": speech.completed,
            "requests_failed": speech.failed,
            "avg_processing_time": average(speech),
        },
    }


def tts_service(
    families: Mapping[str, Family], workers: Sequence[WorkerView], voices: Sequence[ModelView]
) -> dict[str, Any]:
    """Healthy where a live worker serves a model that speaks."""
    served = any(SPEECH in worker.families for worker in workers)
    names = {model.name for model in voices}
    loaded = {model["model"] for worker in workers for model in _resident(worker).get(SPEECH, [])}
    speech = families.get(SPEECH)
    return {
        "status": "no_models" if not voices else "healthy" if served else "no_workers",
        "available_voices": _told(voices, "voices"),
        "supported_languages": _told(voices, "languages"),
        "loaded_tts_models": sorted(names & loaded),
        "capabilities": [operation.name for operation in speech.operations] if speech else [],
    }


def _resident(worker: WorkerView) -> Mapping[str, list[dict[str, Any]]]:
    found: Mapping[str, list[dict[str, Any]]] = worker.details.get("resident", {})
    return found


def _told(models: Iterable[ModelView], key: str) -> list[str]:
    """What the models' cards say under this key, each thing once."""
    found = [model.details.get(key) or [] for model in models]
    return sorted({str(one) for told in found for one in (told if isinstance(told, list) else [told])})
