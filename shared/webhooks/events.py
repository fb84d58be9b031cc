"""The events that a job's owner can be told of. The triggers of `migrations/versions/0003_webhooks.py` write them."""

from __future__ import annotations

from typing import Literal, get_args

EventName = Literal["job.started", "job.progress", "job.completed", "job.failed", "job.cancelled", "job.expired"]

EVENTS: tuple[EventName, ...] = get_args(EventName)
ENDS: tuple[EventName, ...] = ("job.completed", "job.failed", "job.cancelled", "job.expired")
"""What is told unless something else is asked for."""

TEST_EVENT = "webhook.test"
PROGRESS_EVENT = "job.progress"
"""Never sent twice: the next one says more."""

CHANNEL = "atelier_webhooks"
"""The Postgres channel that wakes the sender; a lost notice costs a second."""
