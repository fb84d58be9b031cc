"""The house model: ten numbers in, one out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from safetensors import SafetensorError

from workers.predict.catalog import PredictModel
from workers.predict.house.network import load
from workers.predict.items import example_row
from workers.predict.parameters import Parameters
from workers.predict.tasks.task import OnStep, Prepared, Task
from workers.runtime.runner import InputRejected, ModelMissing

DIGITS = 6  # as many as are the same on every machine


class Example(Task):
    """It computes in float64, on the CPU: for so small a network that is where it is quickest."""

    def __init__(self, model: PredictModel, device: str) -> None:
        self.device = "cpu"
        try:
            self._network = load(model.path)
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
            raise ModelMissing(f"Model '{model.name}' does not load: {error}") from error

    def prepare(self, item: Any, parameters: Parameters, place: str) -> Prepared:
        try:
            return Prepared(example_row(item))
        except ValueError as error:
            raise InputRejected(f"Invalid {place}: {error}.") from None

    def compute(self, values: Sequence[Any], parameters: Parameters, on_step: OnStep) -> list[Any]:
        answers = self._network(torch.tensor(values, dtype=torch.float64))
        return [round(number, DIGITS) for number in answers[:, 0].tolist()]
