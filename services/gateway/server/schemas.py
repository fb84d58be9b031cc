"""The answers of /info, /stats and /config. Null is what is not known."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field


class Recent(BaseModel):
    """Predictions that were accepted in the last `window_seconds`."""

    window_seconds: float
    completed: int
    failed: int
    processing_time: float = Field(description="Seconds, of all that were completed together.")
    complete: bool = Field(description="False if there were so many jobs that only the newest were looked at.")


class PredictStats(BaseModel):
    """Predictions of everybody."""

    requests_processed: int = Field(description="Completed, on all days that usage is kept for.")
    total_processing_time: float | None = Field(description="Not kept: see `recent`.")
    avg_processing_time: float | None = Field(description="Seconds of computing, of the recent ones.")
    active_requests: int
    queue_size: int
    memory_usage_mb: float | None = Field(description="What loading the resident models took, in live workers.")
    recent: Recent


class Performance(BaseModel):
    """Of the recent predictions; latencies in seconds from acceptance to end."""

    throughput_fps: float = Field(description="Completed requests a second, over the window.")
    latency_p50: float | None
    latency_p95: float | None
    latency_p99: float | None
    device_utilization: float | None = Field(description="Not measured.")


class Stats(BaseModel):
    """GET /stats."""

    stats: PredictStats
    performance_report: Performance


class ServerConfig(BaseModel):
    """How the server works."""

    optimization_level: str | None
    caching_strategy: str
    tts_backend: str | None = Field(description="The engines of the models that speak.")
    auto_optimization: bool
    server_features: list[str] = Field(description="The operations that are served.")
    tts_configuration: dict[str, Any]
    performance_settings: dict[str, Any]


class PerformanceMetrics(BaseModel):
    """How it does now."""

    cache_hit_rate: float | None = Field(description="Share of runs that found their model in memory.")
    models_in_memory: int
    system_metrics: dict[str, Any]
    gpu_metrics: list[dict[str, Any]]
    tts_metrics: dict[str, Any]


class TtsService(BaseModel):
    """Whether and how it speaks."""

    status: str
    available_voices: list[str]
    supported_languages: list[str]
    loaded_tts_models: list[str]
    capabilities: list[str]


class Info(BaseModel):
    """GET /info."""

    timestamp: datetime
    server_config: ServerConfig
    performance_metrics: PerformanceMetrics
    tts_service: TtsService


class Configuration(BaseModel):
    """GET /config."""

    configuration: dict[str, Any]
    inference_config: dict[str, Any]
    server_config: dict[str, Any]
    logging_config: dict[str, Any]
