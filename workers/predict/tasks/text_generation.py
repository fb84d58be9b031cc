"""Texts → how they go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import AutoModelForCausalLM

from workers.predict.catalog import PredictModel
from workers.predict.parameters import Parameters
from workers.predict.tasks.generation import new_tokens, write
from workers.predict.tasks.task import OnStep, Prepared
from workers.predict.tasks.texts import TextTask
from workers.runtime.runner import InputRejected


class TextGeneration(TextTask):
    """`{generated_text, new_tokens, finish_reason}`."""

    auto = AutoModelForCausalLM

    def __init__(self, model: PredictModel, device: str) -> None:
        super().__init__(model, device)
        self._positions = self.limit

    def steps(self, parameters: Parameters) -> int:
        return new_tokens(parameters)

    def prepare(self, item: Any, parameters: Parameters, place: str) -> Prepared:
        self.limit = self._positions - new_tokens(parameters)  # the prompt and what is written share the positions
        if self.limit < 1:
            raise InputRejected(f"Invalid parameters.max_new_tokens: the model has {self._positions} positions.")
        prepared = self.tokens(item, parameters, place)
        prepared.value.pop("token_type_ids", None)
        return prepared

    def compute(self, values: Sequence[Any], parameters: Parameters, on_step: OnStep) -> list[Any]:
        return [self._continued(encoding, parameters, on_step) for encoding in values]

    def _continued(self, encoding: dict[str, list[int]], parameters: Parameters, on_step: OnStep) -> dict[str, Any]:
        ids = write(self.network, encoding, parameters, on_step)
        added = ids[len(encoding["input_ids"]) :]
        shown = ids if parameters.return_full_text else added
        return {
            "generated_text": self.tokenizer.decode(shown, skip_special_tokens=True),
            "new_tokens": len(added),
            "finish_reason": "length" if len(added) == new_tokens(parameters) else "stop",
        }
