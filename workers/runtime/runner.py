"""The seam between the runtime and a family's code: what a runner is given, and what it may raise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel


class RunnerError(Exception):
    """Base of the known errors; the text is shown to the client. `code` is one of a fixed list.

    `tries` is how often a job may meet such errors before it fails, where that is less often than the settings say.
    """

    code = "internal"
    retryable = True
    tries: int | None = None


class InputRejected(RunnerError):
    """The request itself cannot work (undecodable picture, unknown adapter): never tried again."""

    code = "input_rejected"
    retryable = False


class ModelMissing(RunnerError):
    """The weights are not there or do not load."""

    code = "model_unavailable"


class ModelDisabled(ModelMissing):
    """An operator does not want the model to be used."""

    retryable = False


class ModelBeyondBudget(ModelMissing):
    """The model alone needs more memory than this worker's models may take."""

    code = "gpu_oom"
    retryable = False


class OutOfMemory(RunnerError):
    """The device has too little memory for this job."""

    code = "gpu_oom"


class DeviceFault(RunnerError):
    """The device's context is broken: this process must not be used again."""

    code = "gpu_fault"


class JobStopped(BaseException):
    """Raised from `job.progress` when the job must stop (cancelled, past its deadline, drained, lease lost).

    Not an Exception: a runner's own `except Exception` must not swallow it.
    """


class Job(Protocol):
    """What a runner sees of the job it executes."""

    id: str
    operation: str
    wants_preview: bool

    @property
    def cancelled(self) -> bool:
        """Whether the job must stop: `progress` raises then, or, in a batch, once this is true of all its jobs."""
        ...

    @property
    def inputs(self) -> Mapping[str, Path]:
        """The files that came with the request, by field; they are gone when `run` returns."""
        ...

    def progress(self, step: int, total: int, preview: Callable[[], bytes] | None = None) -> None:
        """Say that `step` of `total` is done; raises JobStopped. `preview` makes a small JPEG if one is wanted."""
        ...

    def save(self, name: str, content: bytes, media_type: str) -> None:
        """Add an artifact under this relative name, such as `image_0.png`."""
        ...


class Runner(Protocol):
    """The worker-side class of a family; one instance holds one resident model.

    One whose family has operations with a `batch_key` is a BatchRunner as well.
    """

    def setup(self, device: str, model: str) -> None:
        """Load `model` onto `device` ("cpu", "cuda:0"); raises ModelMissing. Called once."""
        ...

    def run(self, request: BaseModel, job: Job) -> dict[str, Any]:
        """Do the work and return the output (JSON); artifacts go through `job.save`."""
        ...

    def status(self) -> dict[str, Any]:
        """What is loaded, as JSON, for /models/status."""
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...


class BatchRunner(Protocol):
    """A runner that can do several jobs with equal batch keys at once."""

    def run_batch(self, requests: Sequence[BaseModel], jobs: Sequence[Job]) -> list[dict[str, Any] | RunnerError]:
        """One entry a job, in order: its output, or the error that fails this job alone.

        Outputs and artifacts are those of single runs. A stopped job (`cancelled`) may be left out of the work; its
        entry is ignored. `progress` is called for all of them, and raises JobStopped when all must stop. Any other
        error is the whole batch's: `run` is then called for each job by itself, after a DeviceFault in another process.
        """
        ...
