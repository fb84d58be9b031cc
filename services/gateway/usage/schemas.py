"""An owner's usage as the API shows it."""

from __future__ import annotations

from datetime import date, datetime

from pydantic import BaseModel, ConfigDict, Field


class JobCounts(BaseModel):
    """Jobs that ended, by final state."""

    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0


class Used(BaseModel):
    """What jobs took."""

    jobs: JobCounts = Field(default_factory=JobCounts)
    gpu_seconds: float = Field(default=0, description="How long attempts held a worker's device, failed ones too.")
    produced_bytes: int = Field(default=0, description="Sizes of the results' files.")


class UsedDay(Used):
    """One day (UTC); days on which nothing happened are left out."""

    day: date
    requests: int = Field(default=0, description="Submissions that passed the rate limit.")
    families: dict[str, Used]


class Totals(Used):
    """The whole span."""

    requests: int = 0
    families: dict[str, Used]


class Quota(BaseModel):
    """`limit` and `left` are null where there is no limit."""

    used: float
    limit: float | None
    left: float | None


class DayQuota(Quota):
    """A quota that is whole again at midnight (UTC)."""

    resets_at: datetime


class RequestLimit(BaseModel):
    """Requests in any `window` seconds."""

    name: str
    limit: int
    left: int
    window: int
    resets_at: datetime


class Limits(BaseModel):
    """What the owner may still use now."""

    stored_bytes: Quota = Field(description="Files of jobs.")
    upload_bytes: Quota = Field(description="Uploads, as long as they are announced to be.")
    gpu_seconds: DayQuota
    live_jobs: Quota
    requests: list[RequestLimit] = Field(description="Empty where requests are not limited.")


class Usage(BaseModel):
    """What an owner used, and what is left."""

    model_config = ConfigDict(title="Usage")

    owner: str = Field(description="The account's name; `anonymous` while authentication is off.")
    first: date = Field(serialization_alias="from")
    last: date = Field(serialization_alias="to")
    totals: Totals
    days: list[UsedDay]
    limits: Limits
