"""Jobs after their submit: status, events, list, cancel, delete."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from services.gateway.auth.access import FOLLOW, READ_JOBS, READ_LOGS, WRITE_JOBS, allowed
from services.gateway.dependencies import Base, Before, Caller, Follower, JobId, Owner, State, unknown_job
from services.gateway.jobs.events import status_events
from services.gateway.jobs.schemas import JobAttempts, JobPage, JobStatus, JobWithAttempts, StreamTicket, links
from services.gateway.jobs.schemas import State as JobStateName
from services.gateway.jobs.status import describe, obstacle, status_body
from services.gateway.responses import json_answer, problems
from shared.accounts.stream_tickets import SECONDS, TICKETS
from shared.errors import JobFinished, JobLive
from shared.jobs.records import as_owners_see

router = APIRouter(tags=["jobs"])
NAME = "^[a-z0-9_.]+$"


@router.get("/status/{job_id}", response_model=JobStatus, responses=problems(404), dependencies=allowed(READ_JOBS))
async def get_status(job_id: JobId, state: State, owner: Owner, base: Base) -> Response:
    """The whole current status of a job."""
    job = await state.jobs.get(job_id, owner)
    if job is None:
        raise unknown_job()
    return json_answer(await describe(state, job, base))


@router.get(
    "/status/{job_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events; every `data` is a whole JobStatus, the last one terminal.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **problems(401, 404),
    },
    dependencies=allowed(FOLLOW),
)
async def get_events(job_id: JobId, state: State, owner: Follower, base: Base) -> Response:
    """Follow a job. Every event is the whole status, so a reconnect misses nothing."""
    if await state.jobs.get(job_id, owner) is None:
        raise unknown_job()
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(status_events(state, job_id, owner, base), headers=headers, media_type="text/event-stream")


@router.post(
    "/status/{job_id}/events/ticket",
    status_code=201,
    response_model=StreamTicket,
    responses=problems(404, 429),
    dependencies=allowed(READ_JOBS),
)
async def make_ticket(job_id: JobId, state: State, caller: Caller, base: Base) -> Response:
    """A ticket for a browser's EventSource, which sends no headers: it opens the job's events once, within a minute."""
    if await state.jobs.get(job_id, caller.owner) is None:
        raise unknown_job()
    await state.attempts.within(TICKETS, caller.owner)
    ticket = await state.stream_tickets.issue(job_id, caller)
    address = f"{links(base, str(job_id))['events_url']}?ticket={ticket}"
    return json_answer({"ticket": ticket, "events_url": address, "expires_in": SECONDS}, 201)


@router.post(
    "/jobs/{job_id}/cancel",
    response_model=JobStatus,
    responses={202: {"model": JobStatus, "description": "The worker stops at its next step."}, **problems(404, 409)},
    dependencies=allowed(WRITE_JOBS),
)
async def cancel_job(job_id: JobId, state: State, owner: Owner, base: Base) -> Response:
    """Cancel a job: 200 if it is cancelled now, 202 if a worker must stop first, 409 if it had ended."""
    outcome = await state.jobs.cancel(job_id, owner, state.settings.result_ttl_seconds)
    job = await state.jobs.get(job_id, owner)
    if job is None:
        raise unknown_job()
    if outcome is None:
        raise JobFinished(f"The job is {job.state} already.", details={"status": job.state})
    await state.waiting.announce(job_id)
    return json_answer(await describe(state, job, base), 200 if outcome == "cancelled" else 202)


@router.get("/jobs", response_model=JobPage, responses=problems(400), dependencies=allowed(READ_JOBS))
async def list_jobs(
    request: Request,
    state: State,
    owner: Owner,
    base: Base,
    before: Before,
    status: Annotated[list[JobStateName] | None, Query(description="Only these states.")] = None,
    family: Annotated[str | None, Query(max_length=100, pattern=NAME)] = None,
    operation: Annotated[str | None, Query(max_length=100, pattern=NAME)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """Your jobs, newest first."""
    jobs = await state.jobs.page(
        owner, before=before, states=status, family=family, operation=operation, limit=limit + 1
    )
    page, more = jobs[:limit], len(jobs) > limit
    shown = [status_body(job, base, None, await obstacle(state, job), None) for job in page]
    return json_answer({"jobs": shown, "next": str(page[-1].id) if more else None})


@router.get("/jobs/{job_id}", response_model=JobWithAttempts, responses=problems(404), dependencies=allowed(READ_JOBS))
async def get_job(job_id: JobId, state: State, caller: Caller, base: Base) -> Response:
    """The same as GET /status/{job_id}, and what became of each attempt that has ended."""
    job = await state.jobs.get(job_id, caller.owner)
    attempts = await state.jobs.attempts(job_id, caller.owner)  # afterwards: a job that has ended has all of them
    if job is None or attempts is None:
        raise unknown_job()
    if READ_LOGS.scope not in caller.scopes:
        attempts = [as_owners_see(attempt) for attempt in attempts]
    return json_answer(await describe(state, job, base) | {"attempts": attempts})


@router.get(
    "/jobs/{job_id}/attempts", response_model=JobAttempts, responses=problems(404), dependencies=allowed(READ_LOGS)
)
async def get_attempts(job_id: JobId, state: State) -> Response:
    """For admins: what became of each attempt of anybody's job, with worker, device and last log lines."""
    attempts = await state.jobs.anybodys_attempts(job_id)
    if attempts is None:
        raise unknown_job()
    return json_answer({"job_id": str(job_id), "attempts": attempts})


@router.delete("/jobs/{job_id}", status_code=204, responses=problems(404, 409), dependencies=allowed(WRITE_JOBS))
async def delete_job(job_id: JobId, state: State, owner: Owner) -> Response:
    """Forget an ended job and its files. A live one must be cancelled first."""
    if not await state.jobs.delete(job_id, owner):
        job = await state.jobs.get(job_id, owner)
        if job is None:
            raise unknown_job()
        raise JobLive(f"The job is {job.state}; cancel it first.", details={"status": job.state})
    return Response(status_code=204)
