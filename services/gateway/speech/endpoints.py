"""GET /audio/health and /tts/health (reference API 004)."""

from typing import Any

from fastapi import APIRouter

from services.gateway.auth.access import READ_JOBS, allowed
from services.gateway.dependencies import State
from services.gateway.responses import problems
from services.gateway.speech.schemas import AudioHealth, TtsHealth
from services.gateway.speech.service import audio_health, tts_health

router = APIRouter(tags=["speech"], dependencies=allowed(READ_JOBS))


@router.get("/audio/health", response_model=AudioHealth, responses=problems())
async def get_audio_health(state: State) -> dict[str, Any]:
    """Whether speech can be made and understood now: models, workers, and the libraries that they have."""
    return await audio_health(state)


@router.get("/tts/health", response_model=TtsHealth, responses=problems())
async def get_tts_health(state: State) -> dict[str, Any]:
    """Which models speak, with their voices and languages, and which of them are loaded."""
    return await tts_health(state)
