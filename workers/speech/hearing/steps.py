"""Lets a job be stopped while a network writes: asked at every token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from workers.runtime.runner import Job


class Steps:
    """Counts a job's windows; `check` raises what `job.progress` raises for a job that must stop."""

    def __init__(self, job: Job, total: int) -> None:
        self._job, self._total, self._done = job, max(total, 1), 0

    def reach(self, done: int) -> None:
        """So many windows are done; they never become fewer, nor more than there are."""
        self._done = max(self._done, min(done, self._total))
        self._job.progress(self._done, self._total)

    def finish(self) -> None:
        self.reach(self._total)

    def check(self) -> None:
        if self._job.cancelled:
            self._job.progress(self._done, self._total)

    @property
    def criteria(self) -> StoppingCriteriaList:
        """For `generate`: it never stops a sequence, and raises when the job must stop."""
        return StoppingCriteriaList([_EveryToken(self)])


class _EveryToken(StoppingCriteria):
    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        self._steps.check()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
