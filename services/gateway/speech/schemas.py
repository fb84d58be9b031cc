"""What the two addresses about sound answer: the union of the reference API 004's dialects."""

from typing import Any, Literal

from pydantic import BaseModel, Field

Status = Literal["healthy", "no_models", "no_workers"]


class Dependency(BaseModel):
    """A library as the workers have it; `version` is null where it is not installed."""

    available: bool
    version: str | None
    description: str


class AudioSystem(BaseModel):
    """The live workers that serve speech, and what they compute on."""

    workers: int
    devices: list[str]


class SupportedFormats(BaseModel):
    """What speech is written as, and the media types that are read."""

    synthesis: list[str]
    transcription: list[str]


class AudioHealth(BaseModel):
    """Whether sound can be made and understood now."""

    status: Status = Field(description="no_models: workers live, but nothing to serve; no_workers: jobs would wait.")
    audio_available: bool
    tts_available: bool
    stt_available: bool
    dependencies: dict[str, Dependency] = Field(description="Empty until a worker has reported.")
    errors: list[str] = Field(description="What is missing, in words.")
    audio_system: AudioSystem
    tts_models: list[str]
    stt_models: list[str]
    supported_formats: SupportedFormats
    system_info: dict[str, Any] = Field(description="Versions of this platform and its API.")


class SpeakingModel(BaseModel):
    """A model that speaks, as its card says; languages are empty where it does not tell."""

    engine: str
    voices: list[str]
    languages: list[str]
    emotions: list[str]
    sample_rate: int | None
    max_characters: int
    loaded: bool = Field(description="Whether a live worker holds it in memory.")


class TtsHealth(BaseModel):
    """What can speak, and how."""

    status: Status
    available_voices: dict[str, list[str]] = Field(description="By model.")
    supported_languages: list[str]
    optimizations_enabled: Literal[False] = Field(description="There is none to switch on.")
    loaded_tts_models: list[str]
    capabilities: list[str] = Field(description="The fields of POST /synthesize that shape its sound.")
    tts_system: AudioSystem
    models: dict[str, SpeakingModel]
    voice_options: dict[str, list[float]] = Field(description="The ranges of the numbers among those fields.")
    performance: dict[str, int] = Field(description="Live speech jobs by state.")
