"""What the routes about models answer: the unions of what the reference APIs do.

What cannot be measured is null; nothing here is a constant that passes for a measurement.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

State = Literal["available", "downloading", "ready", "failed", "disabled", "paused"]
STATE = (
    "ready: it can be asked for; disabled: an operator does not want that; paused: too many jobs crashed it lately, "
    "`breaker` has more; downloading: a job fetches it; failed: the last such job did; available: it can be downloaded."
)
TASK = "As the Hugging Face hub calls it."


class Answer(BaseModel):
    """Base of these bodies: many have fields whose names begin with `model_`."""

    model_config = ConfigDict(protected_namespaces=())


class ModelStatus(Answer):
    """001's model status, with all that can be asked for."""

    loaded: bool
    lora_available: bool
    device: str | None
    model_info: dict[str, Any] | None
    models: list[dict[str, Any]]
    workers: list[dict[str, Any]]


class CatalogFile(BaseModel):
    """A file of a model."""

    name: str = Field(description="Relative to the model's folder.")
    size: int = Field(description="Bytes.")
    sha256: str | None = Field(description="In hex; null until a worker has computed it.")


class Resumed(Answer):
    """A model whose breaker an operator closed."""

    success: bool
    message: str
    model_name: str
    family: str
    was_paused: bool


class ModelHolder(BaseModel):
    """A worker that has the model in memory, with what it measured since its process began."""

    worker: str
    device: str
    memory_bytes: int | None = Field(
        description="How much more memory the worker held after loading: tensors on a GPU; on the CPU the process's "
        "resident memory, which is 0 where freed memory was used again."
    )
    load_seconds: float | None
    loads: int | None
    runs: int | None = Field(description="Jobs.")
    last_used_at: datetime | None


class ModelBreaker(BaseModel):
    """A model that too many different jobs crashed lately. Until the pause is over nothing is taken for it."""

    state: Literal["paused", "half_open"] = Field(description="half_open: one job tries whether it works again.")
    reason: str = Field(description="The error code of the last of those jobs.")
    crashed_jobs: int = Field(description="So many different jobs opened the breaker.")
    openings: int = Field(description="More than one if jobs that tried the model crashed as well.")
    opened_at: datetime
    paused_until: datetime


class CatalogModel(Answer):
    """A model or adapter that workers found on their disks."""

    name: str
    family: str
    kind: Literal["model", "adapter"]
    title: str
    task: str | None = Field(description=TASK)
    state: State = Field(description=STATE)
    breaker: ModelBreaker | None = Field(description="Why and how long it is paused; null if it is not.")
    source: str = Field(description="house, folder, huggingface, url or import.")
    repository: str | None
    revision: str | None = Field(description="The commit of the repository.")
    licence: str | None
    files: list[CatalogFile]
    size_bytes: int | None = Field(description="Of all files.")
    parameters: int | None = Field(description="Floating-point numbers in its safetensors files.")
    dtype: str | None = Field(description="What most of them are stored as.")
    memory_bytes: int | None = Field(description="Of the weights as they are stored: what loading is planned with.")
    settings: dict[str, Any]
    details: dict[str, Any] = Field(description="What its family tells besides.")
    seen_at: datetime = Field(description="When a worker last reported a change of it.")
    loaded: list[ModelHolder]


class ModelFetch(BaseModel):
    """A model that is not here: it is on its way, or its last download failed."""

    name: str
    state: State = Field(description=STATE)
    progress: float | None = Field(description="Percent, as of the worker's last heartbeat.")
    error: str | None = Field(description="The failed job's error code.")


class ModelSummary(BaseModel):
    """A model in short."""

    display_name: str
    task: str | None = Field(description=TASK)
    category: str = Field(description="The family that serves it.")
    enabled: bool
    tts_enabled: bool = Field(description="Whether it speaks.")


class SpecializedModels(BaseModel):
    """Names by task."""

    tts_models: list[str]
    stt_models: list[str]
    image_classification: list[str]
    text_classification: list[str]


class AudioModels(BaseModel):
    """The models that speak or listen."""

    tts_detailed: dict[str, CatalogModel]
    loaded_audio_models: list[str] = Field(description="Those that a live worker has in memory.")


class ModelList(Answer):
    """Every model that is here; `available_models` without the disabled ones."""

    success: bool
    timestamp: datetime
    total_models: int
    models: list[str]
    available_models: list[str]
    model_info: dict[str, CatalogModel]
    models_info: dict[str, ModelSummary]
    specialized_models: SpecializedModels
    audio_models: AudioModels
    adapters: dict[str, CatalogModel] = Field(description="LoRAs.")
    downloads: list[ModelFetch]


class AvailableModel(Answer):
    """A model of the curated list."""

    name: str
    family: str
    task: str = Field(description=TASK)
    state: State = Field(description=STATE)
    source: str
    model_id: str = Field(description="What POST /models/download takes as `model_id`.")
    revision: str | None
    licence: str
    size_bytes: int
    size_mb: float = Field(description="Millions of bytes.")
    parameters: int | None
    description: str
    tags: list[str]
    usable: bool = Field(description="Whether it does here what its name promises.")
    instead: str | None = Field(description="Why it cannot be used, and what is offered in its place.")
    tts_features: dict[str, Any] | None = Field(
        description="max_text: characters a request; null if it does not speak."
    )


class AvailableCategories(BaseModel):
    """Names, by whether they speak."""

    tts_models: list[str]
    general_models: list[str]


class Recommendations(BaseModel):
    """Names for whom or what for."""

    beginners: list[str]
    advanced: list[str]
    fast_setup: list[str]
    highest_quality: list[str]


class AvailableModels(Answer):
    """The curated list."""

    available_models: dict[str, AvailableModel]
    total_available: int = Field(description="Those that can be used.")
    categories: AvailableCategories
    popular_tts_models: list[str] = Field(
        description="The recommended models that speak, smallest first. Nobody counts how popular they are."
    )
    download_recommendations: Recommendations


class ManagedModel(Answer):
    """A model on the disk, and whether it is in memory."""

    name: str
    family: str
    state: State = Field(description=STATE)
    loaded: bool
    device: str | None = Field(description="Of the worker that has it in memory.")
    is_tts: bool
    optimized: bool | None = Field(description="Whether its numbers are stored in fewer than 32 bits; null: not known.")
    memory_usage: int | None = Field(description="Bytes that workers measured when they loaded it; null: not loaded.")
    parameters: int | None


class ManagedCategories(BaseModel):
    """Names, by whether they speak."""

    tts_models: list[str]
    other_models: list[str]


class ManagedSummary(BaseModel):
    """The list, counted."""

    total_loaded: int
    tts_models_count: int
    optimized_count: int
    total_parameters: int = Field(description="Of the models whose parameters are known.")


class ManagedModels(Answer):
    """All models on the disk, house models among them, and what is on its way."""

    total_models: int
    downloaded_models: list[ManagedModel]
    categories: ManagedCategories
    summary: ManagedSummary
    downloads: list[ModelFetch]


class CachedModel(Answer):
    """A model or adapter on the disk."""

    name: str
    family: str
    kind: str
    files: int
    size_bytes: int | None
    size_mb: float | None = Field(description="Millions of bytes.")


class CachedSpeech(BaseModel):
    """The models that speak."""

    tts_models_count: int
    tts_models: list[str]
    tts_total_size_mb: float
    tts_percentage: float | None = Field(description="Their share of all bytes; null where there are none.")


class CacheOptimization(BaseModel):
    """How models are kept."""

    cache_hit_rate: float | None = Field(
        description="Of the jobs that live workers ran since their processes began, the share that found its model in "
        "memory; null before the first one."
    )
    loads: int = Field(description="How often those workers loaded a model.")
    runs: int = Field(description="How many jobs they ran.")
    optimization_enabled: bool = Field(description="Whether a live worker keeps a budget of bytes for its models.")
    auto_cleanup: bool = Field(description="Whether files are deleted without being asked to: never.")


class CacheInfo(Answer):
    """The files of all models and adapters."""

    cache_directory: str = Field(description="The folder's last name; no server's paths are told.")
    total_models: int
    total_size_mb: float = Field(description="Millions of bytes.")
    models: list[CachedModel]
    tts_specific: CachedSpeech
    cache_optimization: CacheOptimization


class DownloadStatus(Answer):
    """A download or an import."""

    download_id: str = Field(description="The job's id.")
    job_id: str
    model_name: str
    status: Literal["pending", "downloading", "completed", "failed", "cancelled"]
    progress: float = Field(ge=0, le=100, description="Percent.")
    eta: float | None = Field(description="Seconds, as measured so far; null: not known.")
    message: str
    downloaded_bytes: int | None
    total_bytes: int | None
    error: str | None = Field(description="The job's error code.")
    status_url: str


class NamedInfo(Answer):
    """What is known of one model."""

    model_name: str
    info: CatalogModel | ModelFetch


class Deleted(Answer):
    """A model whose files are gone."""

    success: bool
    message: str
    model_name: str
    freed_bytes: int


class Told(BaseModel):
    """A worker that had the model in memory."""

    worker: str
    device: str
    unloaded: bool = Field(description="False while a job still runs with the model: it leaves afterwards.")
    freed_bytes: int | None = Field(
        description="How much less memory the worker held afterwards; on the CPU the process's resident memory, "
        "whatever else it did meanwhile."
    )


class Unloaded(Answer):
    """A model that leaves the memory of all workers."""

    success: bool = Field(description="Whether all of them have let go of it.")
    message: str
    model_name: str
    family: str
    workers: list[Told]
    freed_bytes: int


class Managed(Answer):
    """What became of an action: with `workers` where a model was unloaded, with a job's addresses where one runs."""

    model_config = ConfigDict(protected_namespaces=(), extra="allow")

    success: bool
    message: str
    action: str
    model_name: str
    workers: list[Told] | None = None
    freed_bytes: int | None = None
