"""The webhook of one submission: fields of the body, or headers for bodies that have no place for them."""

from __future__ import annotations

from pydantic import BaseModel
from starlette.requests import Request

from shared.egress.errors import BadUrl
from shared.errors import ValidationFailed
from shared.family import JobInput
from shared.webhooks.events import ENDS, EVENTS
from shared.webhooks.registry import JobTarget
from shared.webhooks.targets import Targets

URL_FIELD, EVENTS_FIELD = "webhook_url", "webhook_events"
URL_HEADER, EVENTS_HEADER = "X-Webhook-URL", "X-Webhook-Events"


def wanted_webhook(request: Request, asked: BaseModel, targets: Targets) -> JobTarget | None:
    """What the job's owner wants to be told, and where; raises ValidationFailed that names the field or header."""
    _refuse_inner(asked)
    url, events = getattr(asked, URL_FIELD, None), getattr(asked, EVENTS_FIELD, None)
    url_name, events_name = URL_FIELD, EVENTS_FIELD
    if url is None and URL_HEADER in request.headers:
        url, url_name = request.headers[URL_HEADER], URL_HEADER
    if events is None and EVENTS_HEADER in request.headers:
        events, events_name = _events(request.headers[EVENTS_HEADER]), EVENTS_HEADER
    if url is None:
        if events is not None:
            raise ValidationFailed(f"{events_name} says what {url_name} is told, which is missing.", field=events_name)
        return None
    try:
        return JobTarget(targets.check(url), tuple(sorted(set(events or ENDS))))
    except BadUrl as error:
        raise ValidationFailed(f"Invalid {url_name}: {error}", field=url_name) from None


def _events(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if any(name not in EVENTS for name in names):
        known = ", ".join(EVENTS)
        raise ValidationFailed(f"Invalid {EVENTS_HEADER}. Must be some of: {known}", field=EVENTS_HEADER)
    return names


def _refuse_inner(asked: BaseModel) -> None:
    """A job has one webhook: one of an item in it would change nothing."""
    for name in type(asked).model_fields:
        value = getattr(asked, name)
        for place, item in enumerate(value if isinstance(value, list) else ()):
            if isinstance(item, JobInput):
                for field in (URL_FIELD, EVENTS_FIELD):
                    if getattr(item, field) is not None:
                        where = f"{place}.{field}" if name == "items" else f"{name}.{place}.{field}"
                        told = f"Invalid {field}: one webhook serves all; use the header {URL_HEADER}."
                        raise ValidationFailed(told, field=where)
