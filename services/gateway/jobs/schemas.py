"""Jobs as the API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

State = Literal["queued", "running", "completed", "failed", "cancelled", "expired"]


class Accepted(BaseModel):
    """The answer to an accepted request: the job is durable from now on."""

    model_config = ConfigDict(title="Accepted")

    request_id: str = Field(description="The same as `job_id`.")
    job_id: str
    status: State | Literal["downloading"]
    status_url: str
    result_url: str
    events_url: str
    cancel_url: str


class JobError(BaseModel):
    """Why a job failed, or why its last attempt did."""

    code: str = Field(examples=["input_rejected"])
    message: str


class JobStatus(BaseModel):
    """The whole current status of a job."""

    model_config = ConfigDict(title="JobStatus")

    request_id: str
    job_id: str
    family: str
    operation: str
    status: State
    priority: int
    progress: float = Field(ge=0, le=100, description="Percent.")
    phase: Literal["loading", "running", "uploading"] | None
    step: int | None
    total_steps: int | None
    queue_position: int | None = Field(description="Jobs that go before this one, plus one; counted up to 1,001.")
    estimated_remaining: float | None = Field(description="Seconds, from measured step times; null when unknown.")
    attempt: int
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: JobError | None
    preview: str | None = Field(None, description="data:image/jpeg;base64,… of the unfinished work, if asked for.")
    status_url: str
    result_url: str
    events_url: str
    cancel_url: str


class StreamTicket(BaseModel):
    """A way to a job's events without headers."""

    model_config = ConfigDict(title="StreamTicket")

    ticket: str = Field(description="Serves once, for this job only.")
    events_url: str = Field(description="The job's events with the ticket, for `new EventSource(…)`.")
    expires_in: int = Field(description="Seconds.")


class JobPage(BaseModel):
    """A page of jobs, newest first."""

    model_config = ConfigDict(title="JobPage")

    jobs: list[JobStatus]
    next: str | None = Field(description="The `before` of the next page; null on the last one.")


def links(base: str, job_id: str) -> dict[str, str]:
    """Where to go from here; `base` is "" or "/sync"."""
    return {
        "status_url": f"{base}/status/{job_id}",
        "result_url": f"{base}/results/{job_id}",
        "events_url": f"{base}/status/{job_id}/events",
        "cancel_url": f"{base}/jobs/{job_id}/cancel",
    }


def accepted(base: str, job_id: str, state: str) -> dict[str, Any]:
    """The body of a 202."""
    return {"request_id": job_id, "job_id": job_id, "status": state, **links(base, job_id)}
