"""`<family>.load`: the platform's own operation that loads a model before anybody needs it, as a job of its family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from shared.errors import AtelierError, NotFound
from shared.family import CompletedJob, JobInput, ModelRef, Operation, Schema

VERB = "load"


class LoadInput(JobInput):
    """Which model of the job's family."""

    model: str


class LoadReply(Schema):
    """A model that is in a worker's memory now; bytes and seconds are what that worker measured."""

    success: bool
    message: str
    model_name: str
    family: str
    device: str
    already_loaded: bool = Field(description="Whether that worker had it loaded before.")
    load_seconds: float
    memory_bytes: int = Field(
        description="How much more memory the worker held after loading: tensors on a GPU, on the CPU the process's "
        "resident memory."
    )


def load_operation(family: str) -> Operation:
    """The family's; it has no path of its own."""
    return Operation(
        name=f"{family}.{VERB}",
        paths=(),
        input=LoadInput,
        reply_schema=LoadReply,
        reply=_loaded,
        summary="Load a model",
        description="A worker loads the model and keeps it.",
        examples={},
        models=lambda request: (ModelRef("model", request.model, "name"),),
        missing_model=unknown_name,
        access="models:manage",
        reply_needs_files=False,
    )


def unknown_name(ref: ModelRef, available: Sequence[str]) -> AtelierError:
    """What an address that names no model is answered with."""
    return NotFound(f"Model not found: {ref.name}", details={"available": list(available)})


def _loaded(job: CompletedJob) -> Mapping[str, Any]:
    name = job.output["model_name"]
    done = "was loaded already" if job.output["already_loaded"] else "is loaded"
    return {"success": True, "message": f"{name} {done}.", **job.output}
