"""Texts → shorter texts, by any model that reads one text and writes another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import AutoModelForSeq2SeqLM

from workers.predict.parameters import Parameters
from workers.predict.tasks.generation import new_tokens, write
from workers.predict.tasks.task import OnStep, Prepared
from workers.predict.tasks.texts import TextTask
from workers.runtime.runner import InputRejected


class Summarization(TextTask):
    """`{summary_text}`."""

    auto = AutoModelForSeq2SeqLM

    def steps(self, parameters: Parameters) -> int:
        return new_tokens(parameters)

    def prepare(self, item: Any, parameters: Parameters, place: str) -> Prepared:
        if new_tokens(parameters) >= self.limit:
            raise InputRejected(f"Invalid parameters.max_new_tokens: the model writes at most {self.limit - 1}.")
        return self.tokens(item, parameters, place)

    def compute(self, values: Sequence[Any], parameters: Parameters, on_step: OnStep) -> list[Any]:
        written = (write(self.network, encoding, parameters, on_step) for encoding in values)
        return [{"summary_text": self.tokenizer.decode(ids, skip_special_tokens=True)} for ids in written]
