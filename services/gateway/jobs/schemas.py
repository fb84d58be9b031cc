"""Jobs as the API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.jobs.records import Outcome

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
    waits_for: Literal["model_paused", "retry"] | None = Field(
        description="What else keeps a queued job: its model is paused, or its next attempt is not due."
    )
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


class Attempt(BaseModel):
    """One execution of a job, which has ended."""

    number: int = Field(description="The first is 1.")
    started_at: datetime
    ended_at: datetime
    outcome: Outcome = Field(
        description="Failed for good, queued again after an error, handed back by a worker that stops, lost with its "
        "worker, stopped because the job was cancelled or its deadline passed."
    )
    error: JobError | None


class AttemptInFull(Attempt):
    """The same with what the platform knows of it; what nobody saw is null or left out."""

    worker: str | None = Field(description="The worker's name, and the pid of the process that ran the job.")
    device: str | None = Field(None, examples=["cuda:0"])
    batch_size: int = Field(description="How many jobs ran as one; memory and lines are the whole process's.")
    memory_bytes: int | None = Field(None, description="The most that the process held during the attempt.")
    gpu_memory_bytes: int | None = Field(None, description="The most that its tensors took on the device.")
    exit_code: int | None = Field(None, description="Of a process that died.")
    signal: int | None = Field(None, description="The one that killed the process, such as 9 or 11.")
    counted: bool | None = Field(None, description="Of a lost attempt: whether it counts as the job's crash.")
    lines: list[str] = Field([], description="The last lines of the log, unless the attempt completed; at most 50.")


class JobWithAttempts(JobStatus):
    """The status of a job, and what became of each of its attempts."""

    model_config = ConfigDict(title="JobWithAttempts")

    attempts: list[AttemptInFull | Attempt] = Field(
        description="Those that have ended, in order; in full for who may read logs (scope `logs:read`)."
    )


class JobAttempts(BaseModel):
    """What became of each attempt of a job."""

    model_config = ConfigDict(title="JobAttempts")

    job_id: str
    attempts: list[AttemptInFull]


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
