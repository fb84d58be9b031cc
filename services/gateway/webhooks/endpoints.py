"""Webhooks over HTTP. `default` in the place of an id means the `webhook_url` that jobs are submitted with."""

from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from services.gateway.auth.access import MANAGE_WEBHOOKS, allowed
from services.gateway.dependencies import Before, Owner, State
from services.gateway.responses import json_answer, problems
from services.gateway.state import GatewayState
from services.gateway.typed_bodies import read_typed, takes
from services.gateway.webhooks.schemas import (
    Delivery,
    DeliveryPage,
    DeliveryState,
    Key,
    NewWebhook,
    Redelivered,
    Redelivery,
    Rotation,
    Webhook,
    WebhookChange,
    WebhookCreated,
    WebhookList,
)
from shared.egress.errors import BadUrl
from shared.errors import Conflict, NotFound, ValidationFailed
from shared.ids import parse_id
from shared.webhooks.history import DeliveryView
from shared.webhooks.registry import WebhookView
from shared.webhooks.signing import shown

DEFAULT = "default"
MAX_REDELIVERED = 1000
WRITES = problems(400, 404, 409, 413, 415)
router = APIRouter(prefix="/webhooks", tags=["webhooks"], dependencies=allowed(MANAGE_WEBHOOKS))


async def get_webhook_id(webhook_id: Annotated[str, Path(max_length=100)]) -> UUID:
    """A webhook's id; what cannot be one answers like an unknown one."""
    if (parsed := parse_id(webhook_id)) is None:
        raise _unknown()
    return parsed


async def get_receiver(
    webhook_id: Annotated[str, Path(max_length=100, description=f"A webhook's id, or `{DEFAULT}`.")],
    state: State,
    owner: Owner,
) -> UUID | None:
    """One of the owner's webhooks, or None for the `webhook_url` of jobs."""
    if webhook_id == DEFAULT:
        return None
    return (await _found(state, owner, await get_webhook_id(webhook_id))).id


WebhookId = Annotated[UUID, Depends(get_webhook_id)]
Receiver = Annotated[UUID | None, Depends(get_receiver)]


@router.post(
    "",
    status_code=201,
    response_model=WebhookCreated,
    responses=problems(400, 409, 413, 415),
    openapi_extra=takes(NewWebhook),
)
async def create_webhook(request: Request, state: State, owner: Owner) -> Response:
    """Be told of events of all your jobs (Standard Webhooks 1.0)."""
    asked = await read_typed(request, state.settings.max_json_bytes, NewWebhook)
    url = _checked(state, asked.url)
    made, secret = await state.webhooks.add(owner, url, _events(asked.events), asked.description, asked.signing)
    return json_answer({**_webhook(made), **shown(secret)}, 201, {"Location": f"/webhooks/{made.id}"})


@router.get("", response_model=WebhookList)
async def list_webhooks(state: State, owner: Owner) -> Response:
    """Your webhooks, newest first."""
    return json_answer({"webhooks": [_webhook(view) for view in await state.webhooks.all(owner)]})


@router.get("/{webhook_id}", response_model=Webhook, responses=problems(404))
async def get_webhook(webhook_id: WebhookId, state: State, owner: Owner) -> Response:
    """One of your webhooks."""
    return json_answer(_webhook(await _found(state, owner, webhook_id)))


@router.patch("/{webhook_id}", response_model=Webhook, responses=WRITES, openapi_extra=takes(WebhookChange))
async def update_webhook(request: Request, webhook_id: WebhookId, state: State, owner: Owner) -> Response:
    """Change the address, the events or the description, or switch it off and on."""
    asked = await read_typed(request, state.settings.max_json_bytes, WebhookChange)
    changed = await state.webhooks.change(
        owner,
        webhook_id,
        url=_checked(state, asked.url) if asked.url is not None else None,
        events=_events(asked.events) if asked.events is not None else None,
        description=asked.description,
        enabled=asked.enabled,
    )
    if changed is None:
        raise _unknown()
    return json_answer(_webhook(changed))


@router.delete("/{webhook_id}", status_code=204, responses=problems(404))
async def delete_webhook(webhook_id: WebhookId, state: State, owner: Owner) -> Response:
    """Delete a webhook and the log of its deliveries; what waits is not sent."""
    if not await state.webhooks.remove(owner, webhook_id):
        raise _unknown()
    return Response(status_code=204)


@router.get("/{webhook_id}/secret", response_model=Key, responses=problems(404))
async def get_secret(receiver: Receiver, state: State, owner: Owner) -> Response:
    """What the deliveries are verified with."""
    return json_answer(shown(await state.webhooks.secret(owner, receiver)))


@router.post("/{webhook_id}/rotate-secret", response_model=Key, responses=WRITES, openapi_extra=takes(Rotation))
async def rotate_secret(request: Request, receiver: Receiver, state: State, owner: Owner) -> Response:
    """A new secret. For a while deliveries carry a signature of each, so that receivers can change in their time."""
    asked = await read_typed(request, state.settings.max_json_bytes, Rotation)
    return json_answer(shown(await state.webhooks.rotate(owner, receiver, asked.signing, asked.overlap_seconds)))


@router.post("/{webhook_id}/test", status_code=202, response_model=Delivery, responses=problems(404, 409))
async def test_webhook(webhook_id: WebhookId, state: State, owner: Owner) -> Response:
    """Send the event `webhook.test`; what came of it is in the deliveries."""
    made = await state.deliveries.test(owner, webhook_id)
    if made is None:
        await _found(state, owner, webhook_id)
        raise _disabled()
    return json_answer(_delivery(made), 202)


@router.get("/{webhook_id}/deliveries", response_model=DeliveryPage, responses=problems(400, 404))
async def list_deliveries(
    receiver: Receiver,
    state: State,
    owner: Owner,
    before: Before,
    status: Annotated[list[DeliveryState] | None, Query(description="Only these states.")] = None,
    job_id: Annotated[str | None, Query(max_length=100, description="Only of this job.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """What was sent, and what came of it, newest first."""
    job = parse_id(job_id) if job_id is not None else None
    if job_id is not None and job is None:
        raise ValidationFailed("job_id must be the id of a job.", field="job_id")
    found = await state.deliveries.page(owner, receiver, states=status, job_id=job, before=before, limit=limit + 1)
    page, more = found[:limit], len(found) > limit
    following = str(page[-1].event_id) if more else None
    return json_answer({"deliveries": [_delivery(view) for view in page], "next": following})


@router.post(
    "/{webhook_id}/deliveries/{event_id}/redeliver",
    status_code=202,
    response_model=Delivery,
    responses=problems(404, 409),
)
async def redeliver(
    receiver: Receiver, event_id: Annotated[str, Path(max_length=100)], state: State, owner: Owner
) -> Response:
    """Send one again, with the same `webhook-id`, from the beginning of the schedule."""
    await _require_enabled(state, owner, receiver)
    parsed = parse_id(event_id)
    made = await state.deliveries.again(owner, receiver, parsed) if parsed else None
    if made is None:
        raise NotFound("There is no delivery with this id.")
    return json_answer(_delivery(made), 202)


@router.post(
    "/{webhook_id}/redeliver",
    status_code=202,
    response_model=Redelivered,
    responses=WRITES,
    openapi_extra=takes(Redelivery),
)
async def redeliver_range(request: Request, receiver: Receiver, state: State, owner: Owner) -> Response:
    """Send again what happened in a span of time."""
    asked = await read_typed(request, state.settings.max_json_bytes, Redelivery)
    await _require_enabled(state, owner, receiver)
    count = await state.deliveries.range_again(owner, receiver, asked.states, asked.since, asked.until, MAX_REDELIVERED)
    return json_answer({"redelivered": count}, 202)


async def _found(state: GatewayState, owner: str, webhook_id: UUID) -> WebhookView:
    found = await state.webhooks.get(owner, webhook_id)
    if found is None:
        raise _unknown()
    return found


async def _require_enabled(state: GatewayState, owner: str, receiver: UUID | None) -> None:
    if receiver is not None and (await _found(state, owner, receiver)).disabled_at is not None:
        raise _disabled()


def _unknown() -> NotFound:
    return NotFound("There is no webhook with this id.")


def _disabled() -> Conflict:
    return Conflict("The webhook is disabled; enable it first.")


def _checked(state: GatewayState, url: str) -> str:
    try:
        return state.targets.check(url)
    except BadUrl as error:
        raise ValidationFailed(f"Invalid url: {error}", field="url") from None


def _events(names: list[Any]) -> list[str]:
    return sorted(set(names))


def _webhook(view: WebhookView) -> dict[str, Any]:
    return {**asdict(view), "enabled": view.disabled_at is None}


def _delivery(view: DeliveryView) -> dict[str, Any]:
    values = asdict(view)
    return {"id": values.pop("event_id"), **values}
