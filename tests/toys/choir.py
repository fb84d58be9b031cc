"""A family whose jobs run as batches: those of one voice sing together, at most eight of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field

from shared.family import Family, JobInput, ModelCard, ModelRef, Operation, Schema
from workers.families import Registration
from workers.runtime.runner import DeviceFault, InputRejected, Job, OutOfMemory, RunnerError

MAX_BATCH = 8
VOICES = ("alto", "bass")


class SingInput(JobInput):
    """`steps` of `step_seconds`; what is sung is a file. `solo` never sings with others."""

    say: str = ""
    voice: Literal["alto", "bass"] = "alto"
    solo: bool = False
    steps: int = Field(0, ge=0, le=10_000)
    step_seconds: float = Field(0.0, ge=0, le=600)
    timeout: float | None = Field(None, gt=0, le=600)
    fail: Literal["", "input", "bug", "together", "memory", "fault", "crash"] = ""


class SingReply(Schema):
    """What was sung, and by how many at once."""

    request_id: str
    sung: str
    together: int


CHOIR = Family(
    name="choir",
    title="A choir",
    max_runtime=60,
    operations=(
        Operation(
            name="choir.sing",
            paths=("/choir/sing",),
            input=SingInput,
            reply_schema=SingReply,
            reply=lambda job: {"request_id": job.id, **job.output},
            summary="Sing",
            description="Sings.",
            examples={"nothing": {}},
            models=lambda request: (ModelRef("model", request.voice, "voice"),),
            reply_needs_files=False,
            batch_key=lambda request: None if request.solo else "choir",
            max_batch=MAX_BATCH,
            time_limit=lambda request: request.timeout,
        ),
    ),
    discover=lambda: tuple(ModelCard("model", voice, voice) for voice in VOICES),
)

REGISTRATIONS = [Registration(CHOIR, "tests.toys.choir:ChoirRunner")]


class ChoirRunner:
    """`calls` are the batches that it was given; `at_step` is called before each step with the jobs that sing."""

    calls: ClassVar[list[list[str]]] = []
    at_step: ClassVar[Callable[[Sequence[Job]], None] | None] = None

    def setup(self, device: str, model: str) -> None:
        self._voice = model

    def run(self, request: BaseModel, job: Job) -> dict[str, Any]:
        (entry,) = self._sing([request], [job])
        if isinstance(entry, RunnerError):
            raise entry
        return entry

    def run_batch(self, requests: Sequence[BaseModel], jobs: Sequence[Job]) -> list[dict[str, Any] | RunnerError]:
        return self._sing(requests, jobs)

    def status(self) -> dict[str, Any]:
        return {"loaded": True}

    def close(self) -> None:
        pass

    def _sing(self, requests: Sequence[Any], jobs: Sequence[Job]) -> list[dict[str, Any] | RunnerError]:
        self.calls.append([request.say for request in requests])
        for request in requests:
            _fail(request.fail, len(jobs))
        for step in range(max(request.steps for request in requests)):
            time.sleep(max(request.step_seconds for request in requests))
            if self.at_step:
                type(self).at_step(jobs)  # type: ignore[misc]
            for request, job in zip(requests, jobs, strict=True):
                if step < request.steps:
                    job.progress(step + 1, request.steps)
        return [self._part(request, job, len(jobs)) for request, job in zip(requests, jobs, strict=True)]

    def _part(self, request: SingInput, job: Job, together: int) -> dict[str, Any] | RunnerError:
        if request.fail == "input":
            return InputRejected("This singer was told to refuse.")
        job.save("song.txt", f"{self._voice}: {request.say}".encode(), "text/plain")
        return {"sung": request.say, "together": together}


def _fail(kind: str, together: int) -> None:
    if kind == "bug" or (kind == "together" and together > 1):
        raise RuntimeError("out of tune")
    if kind == "memory" and together > 1:
        raise OutOfMemory("Too many singers.")
    if kind == "fault":
        raise DeviceFault("The stage broke down.")
    if kind == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
