"""The seam between the runner and a task: inputs are prepared one by one, and computed together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from workers.predict.catalog import PredictModel
from workers.predict.parameters import Parameters

OnStep = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """An input that was found good, as `compute` takes it; `truncated` if it was cut."""

    value: Any
    truncated: bool = False


class Task:
    """A loaded model. Its constructor raises ModelMissing; `device` is where it computes."""

    batches = True  # whether several inputs may go through the network at once and come out as they would alone
    device: str

    def __init__(self, model: PredictModel, device: str) -> None:
        raise NotImplementedError

    def prepare(self, item: Any, parameters: Parameters, place: str) -> Prepared:
        """Check one input; raises InputRejected that names its `place`. A picture's file comes as a Path."""
        raise NotImplementedError

    def steps(self, parameters: Parameters) -> int:
        """How many steps one input takes."""
        return 1

    def compute(self, values: Sequence[Any], parameters: Parameters, on_step: OnStep) -> list[Any]:
        """One result a value, as JSON; `on_step` hears of steps where an input has several, and may raise to stop."""
        raise NotImplementedError
