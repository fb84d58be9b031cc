"""What the webhook routes take and answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, Field, model_validator

from shared.family import Schema
from shared.webhooks.events import ENDS, EventName

Url = Annotated[str, Field(min_length=1, max_length=2048, description="https; public, or of an allowed network.")]
Events = Annotated[list[EventName], Field(min_length=1, max_length=20)]
Description = Annotated[str, Field(max_length=200)]
Signing = Annotated[
    Literal["hmac", "ed25519"],
    Field(description="hmac: a shared secret (v1). ed25519: a key pair of which you get the public part (v1a)."),
]
DeliveryState = Literal["pending", "delivered", "undelivered", "disabled"]


class NewWebhook(Schema):
    url: Url
    events: Events = Field(list(ENDS), description="Of all your jobs; left out, how they ended.")
    description: Description = ""
    signing: Signing = "hmac"


class WebhookChange(Schema):
    """What is left out stays as it is."""

    url: Url | None = None
    events: Events | None = None
    description: Description | None = None
    enabled: bool | None = Field(None, description="false parks what waits; true sends new events again.")


class Rotation(Schema):
    signing: Signing | None = Field(None, description="Left out, as before.")
    overlap_seconds: int = Field(86_400, ge=0, le=7 * 86_400, description="How long the old secret signs as well.")


class Redelivery(Schema):
    """Which deliveries to send again, by when their event happened."""

    since: AwareDatetime = Field(strict=False)
    until: AwareDatetime | None = Field(None, strict=False)
    states: list[Literal["delivered", "undelivered", "disabled"]] = Field(["undelivered", "disabled"], min_length=1)

    @model_validator(mode="after")
    def _forward(self) -> Redelivery:
        if self.until is not None and self.until <= self.since:
            raise ValueError("until must be later than since")
        return self


class Webhook(BaseModel):
    id: str
    url: str
    events: list[EventName]
    description: str
    enabled: bool
    disabled_reason: str | None
    created_at: datetime
    updated_at: datetime
    disabled_at: datetime | None


class Key(BaseModel):
    """What a receiver verifies with."""

    secret: str | None = Field(description="`whsec_…`, for hmac.")
    public_key: str | None = Field(description="`whpk_…`, for ed25519.")


class WebhookCreated(Webhook, Key):
    """The webhook and what its deliveries are verified with."""


class WebhookList(BaseModel):
    webhooks: list[Webhook]


class Delivery(BaseModel):
    """One event for one receiver."""

    id: str = Field(description="The `webhook-id`, the same in every try.")
    job_id: str | None
    type: str
    state: DeliveryState
    url: str | None = Field(description="Where to, for the `webhook_url` of a job.")
    tries: int
    created_at: datetime
    tried_at: datetime | None
    finished_at: datetime | None
    next_at: datetime | None = Field(description="The next try, while it is pending.")
    status: int | None = Field(description="The receiver's last answer.")
    response: str | None = Field(description="Its first 4,096 bytes, as printable text.")
    error: str | None


class DeliveryPage(BaseModel):
    deliveries: list[Delivery]
    next: str | None = Field(description="The `before` of the next page; null on the last one.")


class Redelivered(BaseModel):
    redelivered: int = Field(description="At most 1,000 at a time, the oldest first.")
