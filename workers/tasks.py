"""What a doorbell starts in the child."""

from __future__ import annotations

from uuid import UUID

from shared.failpoints import failpoint
from shared.queue import TASK
from workers.celery_app import app
from workers.child import executor


@app.task(name=TASK, bind=True)
def run_job(self, job_id: str) -> None:  # type: ignore[no-untyped-def]
    """Answer one doorbell. A forged or late one finds nothing to claim and does no harm."""
    failpoint("W1")
    family = self.request.delivery_info["routing_key"].removeprefix("atelier.")
    executor().answer(family, UUID(job_id))
