"""GET /usage: what an owner used, day by day, and what is left."""

import re
from datetime import date, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.gateway.auth.access import MANAGE_ACCOUNTS, READ_JOBS, allowed
from services.gateway.dependencies import Caller, State
from services.gateway.limits.counting import address_of
from services.gateway.responses import problems
from services.gateway.state import GatewayState
from services.gateway.usage.schemas import Usage
from services.gateway.usage.service import booked_by, usage_of
from shared.accounts.credentials import Principal
from shared.errors import Forbidden, NotFound, ValidationFailed

LONGEST, USUAL = 92, 30  # days
DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
AS_DATE = {"format": "date"}
FROM = "The first day (UTC); left out, 30 days up to `to`."
TO = "The last day; left out, today."
OWNER = "Another account's name (admins; to others it is unknown)."

router = APIRouter(tags=["usage"])


@router.get("/usage", response_model=Usage, responses=problems(400, 404), dependencies=allowed(READ_JOBS))
async def get_usage(
    request: Request,
    state: State,
    caller: Caller,
    first: Annotated[str | None, Query(alias="from", description=FROM, json_schema_extra=AS_DATE)] = None,
    last: Annotated[str | None, Query(alias="to", description=TO, json_schema_extra=AS_DATE)] = None,
    owner: Annotated[str | None, Query(max_length=50, description=OWNER)] = None,
) -> Response:
    """Requests, jobs by final state, GPU seconds and bytes, by day and family; and quotas with what is left of them."""
    asked = await _account(state, caller, owner)
    now = await booked_by(state, asked.owner)
    until = _day("to", last) or now.now.date()
    since = _day("from", first) or until - timedelta(days=min(USUAL - 1, until.toordinal() - 1))
    if until < since:
        raise ValidationFailed("Invalid to: it is before `from`.", field="to")
    if (until - since).days >= LONGEST:
        raise ValidationFailed(f"Invalid from: at most {LONGEST} days are told at once.", field="from")
    usage = await usage_of(state, asked, address_of(request), now, since, until)
    body = usage.model_dump_json(by_alias=True)
    return Response(body, media_type="application/json")


async def _account(state: GatewayState, caller: Principal, name: str | None) -> Principal:
    """Whose usage is meant; a foreign name is an unknown one, unless an admin asks."""
    if name is None or name.lower() == caller.username.lower():
        return caller
    found = None
    if state.accounts is not None and _may_see_others(caller):
        found = await state.accounts.credentials.of_name(name)
    if found is None:
        raise NotFound("There is no account with this name.")
    return found


def _may_see_others(caller: Principal) -> bool:
    try:
        MANAGE_ACCOUNTS.check(caller)
    except Forbidden:
        return False
    return True


def _day(field: str, text: str | None) -> date | None:
    if text is None:
        return None
    try:
        if not DAY.fullmatch(text):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise ValidationFailed(f"Invalid {field}: a day such as 2026-11-21 is expected.", field=field) from None
