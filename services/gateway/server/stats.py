"""GET /stats: predictions, counted and timed by the database."""

from __future__ import annotations

from typing import Any

from services.gateway.state import GatewayState
from shared.jobs.figures import Timings, completed, live, timings

FAMILY, WINDOW = "predict", 3600.0  # seconds


async def stats(state: GatewayState) -> dict[str, Any]:
    """Counts of all time that is kept, times of the last hour."""
    pool = state.read_pool
    recent, now = await timings(pool, FAMILY, WINDOW), await live(pool, FAMILY)
    workers = [worker for worker in await state.fleet.workers() if FAMILY in worker.families]
    held = [
        model.get("memory_bytes") for worker in workers for model in worker.details.get("resident", {}).get(FAMILY, [])
    ]
    return {
        "stats": {
            "requests_processed": await completed(pool, FAMILY),
            "total_processing_time": None,
            "avg_processing_time": average(recent),
            "active_requests": now["running"],
            "queue_size": now["queued"],
            "memory_usage_mb": round(sum(size or 0 for size in held) / 2**20, 3) if workers else None,
            "recent": {
                "window_seconds": recent.window,
                "completed": recent.completed,
                "failed": recent.failed,
                "processing_time": round(recent.computing, 6),
                "complete": recent.whole,
            },
        },
        "performance_report": {
            "throughput_fps": recent.completed / recent.window,
            "latency_p50": recent.p50,
            "latency_p95": recent.p95,
            "latency_p99": recent.p99,
            "device_utilization": None,
        },
    }


def average(recent: Timings) -> float | None:
    """Seconds of computing a completed job; None if there was none."""
    return round(recent.computing / recent.completed, 6) if recent.completed else None
