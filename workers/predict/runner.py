"""The predict family's runner: one resident model, asked by one request or by several at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import BaseModel

from workers.predict.catalog import find_models
from workers.predict.spec import PredictInput
from workers.predict.suiting import Misfit, check
from workers.predict.tasks import load_task
from workers.predict.tasks.task import Prepared
from workers.runtime.devices import device_errors
from workers.runtime.runner import InputRejected, Job, JobStopped, ModelMissing, RunnerError

TOGETHER = 32  # inputs that are computed at once


@dataclass(slots=True)
class Asked:
    """One request on its way through: its inputs, and what became of them."""

    request: PredictInput
    job: Job
    inputs: list[Prepared] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    output: dict[str, Any] | None = None
    error: RunnerError | None = None
    stopped: JobStopped | None = None
    largest: int = 0  # inputs of the largest group that it was part of
    shared: bool = False  # whether another request was in one of its groups

    @property
    def live(self) -> bool:
        return self.error is None and self.stopped is None

    def progress(self, step: int, steps: int) -> None:
        """`step` of `steps` of the input that is computed now; raises JobStopped, also if only this job must stop."""
        try:
            self.job.progress(len(self.results) * steps + step, len(self.inputs) * steps)
            if self.job.cancelled:
                raise JobStopped("cancelled")
        except JobStopped as stopped:
            self.stopped = stopped
            raise


class PredictRunner:
    """See `workers.runtime.runner.Runner`."""

    def setup(self, device: str, model: str) -> None:
        """Load the named model; raises ModelMissing, OutOfMemory."""
        found = find_models().get(model)
        if found is None:
            raise ModelMissing(f"Model '{model}' is not on this worker's disk.")
        self._model = found
        with device_errors():
            self._task = load_task(found, device)

    def run(self, request: BaseModel, job: Job) -> dict[str, Any]:
        """`predict.predict` of one request."""
        asked = self._answered([request], [job])[0]
        if asked.output is None:
            raise asked.error or asked.stopped or JobStopped("cancelled")
        return asked.output

    def run_batch(self, requests: Sequence[BaseModel], jobs: Sequence[Job]) -> list[dict[str, Any] | RunnerError]:
        """The same for several, whose inputs go through the network together; a stopped job's entry means nothing."""
        return [asked.error or asked.output or {} for asked in self._answered(requests, jobs)]

    def status(self) -> dict[str, Any]:
        """What is loaded, as /models/status tells it."""
        return {"loaded": True, "device": self._task.device, "task": self._model.task}

    def close(self) -> None:
        """Let go of the weights."""
        on_gpu = self._task.device.startswith("cuda")
        del self._task
        if on_gpu:
            torch.cuda.empty_cache()

    def _answered(self, requests: Sequence[BaseModel], jobs: Sequence[Job]) -> list[Asked]:
        """Each with its output, unless it failed or was stopped."""
        began, all_asked = time.monotonic(), []
        for request, job in zip(requests, jobs, strict=True):
            assert isinstance(request, PredictInput)
            all_asked.append(Asked(request, job))
        with torch.inference_mode(), device_errors():
            for asked in all_asked:
                self._prepare(asked)
            while group := self._next_group(all_asked):
                self._compute(group)
        seconds = round(time.monotonic() - began, 6)
        done = [asked for asked in all_asked if asked.live and len(asked.results) == len(asked.inputs)]
        for asked in done:
            asked.output = self._output(asked, seconds, len(done))
        return all_asked

    def _prepare(self, asked: Asked) -> None:
        request, items = asked.request, asked.request.items()
        try:
            check(self._model.task, items.kind, request.parameters)
            for number, item in enumerate(items.values):
                picture = items.kind == "picture"
                value, place = (asked.job.inputs[item], item) if picture else (item, items.place(number))
                asked.inputs.append(self._task.prepare(value, request.parameters, place))
        except Misfit as error:
            asked.error = InputRejected(str(error))
        except InputRejected as error:
            asked.error = error

    def _next_group(self, all_asked: Sequence[Asked]) -> list[Asked]:
        """Whose inputs are computed next, one entry an input; those of a task that is not batched go one by one."""
        waiting = [
            asked
            for asked in all_asked
            if asked.live and not asked.job.cancelled
            for _ in range(len(asked.inputs) - len(asked.results))
        ]
        return waiting[: TOGETHER if self._task.batches else 1]

    def _compute(self, group: Sequence[Asked]) -> None:
        """One result more for each entry of the group; all of it stops if its only request does."""
        taken: dict[int, int] = {}
        values = []
        for asked in group:
            number = len(asked.results) + taken.get(id(asked), 0)
            values.append(asked.inputs[number].value)
            taken[id(asked)] = taken.get(id(asked), 0) + 1
        first, steps = group[0], self._task.steps(group[0].request.parameters)
        try:
            made = self._task.compute(values, first.request.parameters, lambda step: first.progress(step, steps))
        except JobStopped:
            return
        except InputRejected as error:
            self._fail(group, error)
            return
        for asked, result in zip(group, made, strict=True):
            asked.results.append(result)
            asked.largest, asked.shared = max(asked.largest, len(group)), asked.shared or len(taken) > 1
        for asked in {id(asked): asked for asked in group}.values():
            with suppress(JobStopped):
                asked.progress(0, steps)

    def _fail(self, group: Sequence[Asked], error: InputRejected) -> None:
        """Only what was computed alone is known to be at fault; the others are computed alone as well."""
        if len({id(asked) for asked in group}) == 1:
            group[0].error = error
            return
        for asked in group:
            while asked.live and len(asked.results) < len(asked.inputs):
                self._compute([asked])

    def _output(self, asked: Asked, seconds: float, requests: int) -> dict[str, Any]:
        request, items = asked.request, asked.request.items()
        path = "shared_batch" if asked.shared else "request_batch" if asked.largest > 1 else "single"
        return {
            "result": asked.results if items.batch else asked.results[0],
            "processing_time": seconds,
            "model_info": {
                "model": self._model.name,
                "task": self._model.task,
                "device": self._task.device,
                "input_type": "batch" if items.batch else "single",
                "input_count": len(asked.inputs),
                "processing_path": path,
                "truncated": [n for n, prepared in enumerate(asked.inputs) if prepared.truncated],
                "seed": request.parameters.seed,
            },
            "batch_info": {
                "inflight_batching_enabled": request.enable_batching and self._task.batches,
                "processed_as_batch": asked.largest > 1,
                "concurrent_optimization": asked.shared,
                "batch_size": asked.largest,
                "requests": requests,
            },
        }
