"""What can speak and hear, from the workers' reports and the catalog; nothing is assumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.gateway.metrics.service import LIVE
from services.gateway.state import GatewayState
from services.gateway.version import API_VERSION, PLATFORM_VERSION
from shared.fleet.queries import WorkerView
from shared.signatures import AUDIO_TYPES
from workers.speech.spec import FORMATS, SPEECH, SynthesizeInput

SHAPING = (
    *("voice", "speed", "pitch", "volume", "language", "emotion"),
    *("quality", "speaker_embedding", "normalize_text", "output_format"),
)
NUMBERS = ("speed", "pitch", "volume")


async def audio_health(state: GatewayState) -> dict[str, Any]:
    """004's /audio/health: `dependencies` are the libraries of whichever worker reported last."""
    workers, models = await _workers(state), await _models(state)
    speaking = [name for name, card in models.items() if "voices" in card]
    hearing = [name for name in models if name not in speaking]
    libraries: Mapping[str, Any] = next((card["libraries"] for card in models.values() if "libraries" in card), {})
    missing = [
        *([] if workers else ["No live worker serves speech: jobs wait for one."]),
        *([] if speaking else ["No model speaks."]),
        *([] if hearing else ["No model hears."]),
    ]
    return {
        "status": _status(workers, models),
        "audio_available": bool(workers and models),
        "tts_available": bool(workers and speaking),
        "stt_available": bool(workers and hearing),
        "dependencies": libraries,
        "errors": missing,
        "audio_system": _system(workers),
        "tts_models": speaking,
        "stt_models": hearing,
        "supported_formats": {"synthesis": FORMATS, "transcription": AUDIO_TYPES},
        "system_info": {"platform_version": PLATFORM_VERSION, "api_version": API_VERSION},
    }


async def tts_health(state: GatewayState) -> dict[str, Any]:
    """004's /tts/health."""
    workers = await _workers(state)
    speaking = {name: card for name, card in (await _models(state)).items() if "voices" in card}
    loaded = {held["model"] for worker in workers for held in worker.details.get("resident", {}).get(SPEECH.name, ())}
    properties = SynthesizeInput.model_json_schema()["properties"]
    live = [row for row in await state.read_pool.fetch(LIVE) if row["family"] == SPEECH.name]
    return {
        "status": _status(workers, speaking),
        "available_voices": {name: card["voices"] for name, card in speaking.items()},
        "supported_languages": sorted({language for card in speaking.values() for language in card["languages"]}),
        "optimizations_enabled": False,
        "loaded_tts_models": sorted(loaded & speaking.keys()),
        "capabilities": SHAPING,
        "tts_system": _system(workers),
        "models": {name: {"emotions": [], **card, "loaded": name in loaded} for name, card in speaking.items()},
        "voice_options": {name: [properties[name]["minimum"], properties[name]["maximum"]] for name in NUMBERS},
        "performance": {row["state"]: row["n"] for row in live},
    }


async def _workers(state: GatewayState) -> list[WorkerView]:
    return [worker for worker in await state.fleet.workers() if SPEECH.name in worker.families]


async def _models(state: GatewayState) -> Mapping[str, Mapping[str, Any]]:
    """What the family's models say of themselves, by name."""
    return await state.catalog.known(SPEECH.name)


def _status(workers: list[WorkerView], models: Mapping[str, Any]) -> str:
    if not models:
        return "no_models"
    return "healthy" if workers else "no_workers"


def _system(workers: list[WorkerView]) -> dict[str, Any]:
    return {"workers": len(workers), "devices": sorted({worker.device for worker in workers})}
