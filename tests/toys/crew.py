"""A family of toys that run as batches of up to twenty: they work and wait together, each makes its own files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from shared.family import Family, Operation
from tests.toys.family import ToyInput, ToyReply
from tests.toys.runner import ToyRunner
from workers.families import Registration
from workers.runtime.runner import Job, RunnerError

MAX_BATCH = 20

CREW = Family(
    name="crew",
    title="A crew",
    max_runtime=60,
    operations=(
        Operation(
            name="crew.row",
            paths=("/crew/row",),
            input=ToyInput,
            reply_schema=ToyReply,
            reply=lambda job: {"request_id": job.id, **job.output},
            summary="Row",
            description="Counts strokes.",
            examples={"nothing": {}},
            reply_needs_files=False,
            batch_key=lambda _: "crew",
            max_batch=MAX_BATCH,
        ),
    ),
    discover=tuple,
)

REGISTRATIONS = [Registration(CREW, "tests.toys.crew:CrewRunner")]


class CrewRunner(ToyRunner):
    def run_batch(self, requests: Sequence[BaseModel], jobs: Sequence[Job]) -> list[dict[str, Any] | RunnerError]:
        crew = [ToyInput.model_validate(request.model_dump()) for request in requests]
        while any(request.until and not Path(request.until).exists() for request in crew):
            time.sleep(0.02)
            _tell(jobs, 0, crew[0].steps)
        for step in range(crew[0].steps):
            time.sleep(crew[0].step_seconds)
            _tell(jobs, step + 1, crew[0].steps)
        return [self.run(request.model_copy(update={"steps": 0}), job) for request, job in zip(crew, jobs, strict=True)]


def _tell(jobs: Sequence[Job], step: int, steps: int) -> None:
    for job in jobs:
        job.progress(step, steps)
