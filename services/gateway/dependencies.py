"""What routes ask of a request: the process's state, who asks, under which base path, for which job.

All are coroutines, because FastAPI gives a plain function a thread of its own, which costs more than it does.
"""

from __future__ import annotations

from typing import Annotated, cast
from uuid import UUID

from fastapi import Depends, Path, Query, Request

from services.gateway.auth.access import get_follower, get_principal, get_submitter
from services.gateway.state import GatewayState
from shared.accounts.credentials import Principal
from shared.errors import InvalidCursor, NotFound
from shared.ids import parse_id


async def get_state(request: Request) -> GatewayState:
    """This gateway process's state."""
    return cast(GatewayState, request.app.state.gateway)


async def get_owner(principal: Annotated[Principal, Depends(get_principal)]) -> str:
    """Whose jobs are meant."""
    return principal.owner


async def get_base(request: Request) -> str:
    """ "/sync" for a request under that base path, else ""."""
    return "/sync" if request.scope.get("waits_by_default") else ""


async def get_job_id(
    job_id: Annotated[str, Path(description="The id from the 202.", examples=["0199a7f0-0000-7000-8000-000000000000"])],
) -> UUID:
    """The path's job id; what is no id is unknown."""
    parsed = parse_id(job_id)
    if parsed is None:
        raise unknown_job()
    return parsed


async def get_cursor(
    before: Annotated[str | None, Query(description="`next` of the page before.", max_length=36)] = None,
) -> UUID | None:
    """Where a page of a list begins; None for the first one."""
    parsed = parse_id(before) if before is not None else None
    if before is not None and parsed is None:
        raise InvalidCursor("`before` must be the `next` of a page.", field="before")
    return parsed


def unknown_job() -> NotFound:
    """Unknown, deleted and foreign ids answer alike."""
    return NotFound("There is no job with this id.")


State = Annotated[GatewayState, Depends(get_state)]
Owner = Annotated[str, Depends(get_owner)]
Submitter = Annotated[Principal | None, Depends(get_submitter)]
Caller = Annotated[Principal, Depends(get_principal)]
Follower = Annotated[str, Depends(get_follower)]
Base = Annotated[str, Depends(get_base)]
Before = Annotated[UUID | None, Depends(get_cursor)]
JobId = Annotated[UUID, Depends(get_job_id)]
