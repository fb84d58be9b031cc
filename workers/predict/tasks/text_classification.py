"""Texts → labels with scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import AutoModelForSequenceClassification

from workers.predict.parameters import Parameters
from workers.predict.tasks.labels import best_labels
from workers.predict.tasks.task import OnStep, Prepared
from workers.predict.tasks.texts import TextTask


class TextClassification(TextTask):
    """`[{label, score}, …]`, best first."""

    auto = AutoModelForSequenceClassification

    def prepare(self, item: Any, parameters: Parameters, place: str) -> Prepared:
        return self.tokens(item, parameters, place)

    def compute(self, values: Sequence[Any], parameters: Parameters, on_step: OnStep) -> list[Any]:
        return best_labels(self.logits(values), self.network.config, parameters.top_k)
