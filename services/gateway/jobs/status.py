"""What the API tells of a job: the row, made finer by the newest progress from Redis while it runs."""

from __future__ import annotations

from typing import Any

from redis.exceptions import RedisError

from services.gateway.jobs.schemas import links
from services.gateway.state import GatewayState
from shared.events import decode_progress, progress_key
from shared.jobs.queries import JobView

PROGRESS_FIELDS = ("progress", "phase", "step", "total_steps", "estimated_remaining", "preview")


async def describe(state: GatewayState, job: JobView, base: str, live: dict[str, Any] | None = None) -> dict[str, Any]:
    """The status body; `live` is progress that the caller has already heard."""
    position = await state.jobs.ahead(job) + 1 if job.state == "queued" else None
    if job.state == "running" and live is None:
        live = await _newest(state, job)
    return status_body(job, base, position, await obstacle(state, job), live)


async def obstacle(state: GatewayState, job: JobView) -> str | None:
    """What else than jobs before it keeps a queued job from running."""
    if job.state != "queued":
        return None
    if await state.breakers.holds(job.family, job.model):
        return "model_paused"
    return "retry" if job.run_after > job.now else None


def status_body(
    job: JobView, base: str, position: int | None, waits_for: str | None, live: dict[str, Any] | None
) -> dict[str, Any]:
    """The status of `job`; progress of another attempt than the current one is not shown."""
    known = dict.fromkeys(PROGRESS_FIELDS)
    known["progress"] = 100.0 if job.state == "completed" else 0.0
    if job.state == "running":
        for source in (job.progress, live):
            if source and source.get("attempt") == job.attempt:
                known |= {key: source[key] for key in PROGRESS_FIELDS if key in source}
    job_id = str(job.id)
    return {
        "request_id": job_id,
        "job_id": job_id,
        "family": job.family,
        "operation": job.operation,
        "status": job.state,
        "priority": job.priority,
        "progress": known["progress"],
        "phase": known["phase"],
        "step": known["step"],
        "total_steps": known["total_steps"],
        "queue_position": position,
        "waits_for": waits_for,
        "estimated_remaining": 0.0 if job.finished else known["estimated_remaining"],
        "attempt": job.attempt,
        "cancel_requested": job.cancel_requested_at is not None,
        "created_at": job.created_at.isoformat(),
        "started_at": job.started_at.isoformat() if job.started_at else None,
        "finished_at": job.finished_at.isoformat() if job.finished_at else None,
        "error": {key: job.error[key] for key in ("code", "message")}
        if job.error and job.state != "completed"
        else None,
        "preview": known["preview"],
        **links(base, job_id),
    }


async def _newest(state: GatewayState, job: JobView) -> dict[str, Any] | None:
    try:
        message = await state.redis.get(progress_key(job.id))
    except (RedisError, OSError):
        return None  # the row's own progress, as of the last heartbeat, is shown instead
    return decode_progress(message) if message else None
