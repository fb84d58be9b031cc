"""Texts and labels that the model was never taught → how well each label fits, by asking whether it follows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from workers.predict.catalog import PredictModel, is_entailment
from workers.predict.parameters import Parameters
from workers.predict.tasks.task import OnStep, Prepared
from workers.predict.tasks.texts import TextTask
from workers.runtime.runner import InputRejected, ModelMissing

TEMPLATE = "This example is {}."
MAX_LABELS = 50


class ZeroShotClassification(TextTask):
    """`{sequence, labels, scores}`, best first. An input is a text, or `{text, candidate_labels}`."""

    auto = AutoModelForSequenceClassification

    def __init__(self, model: PredictModel, device: str) -> None:
        super().__init__(model, device)
        names = {label.lower(): int(n) for label, n in self.network.config.label2id.items()}
        entailment = [n for label, n in names.items() if is_entailment(label)]
        against = [n for label, n in names.items() if label.startswith("contra")] or [
            n for n in names.values() if n not in entailment
        ]
        if len(entailment) != 1 or not against:
            raise ModelMissing(f"Model '{model.name}' does not know entailment: its labels are {', '.join(names)}.")
        self._against, self._entailment = against[0], entailment[0]

    def prepare(self, item: Any, parameters: Parameters, place: str) -> Prepared:
        text, labels = item, parameters.candidate_labels
        if isinstance(item, dict):
            if item.keys() != {"text", "candidate_labels"}:
                raise InputRejected(f"Invalid {place}: an object has `text` and `candidate_labels`, and nothing else.")
            text, labels = item["text"], _labels(item["candidate_labels"], f"{place}.candidate_labels")
        assert labels is not None  # see suiting.py
        template = parameters.hypothesis_template or TEMPLATE
        pairs = [self.tokens(text, parameters, place, template.replace("{}", label)) for label in labels]
        value = (text, labels, [pair.value for pair in pairs])
        return Prepared(value, truncated=any(pair.truncated for pair in pairs))

    def compute(self, values: Sequence[Any], parameters: Parameters, on_step: OnStep) -> list[Any]:
        logits = self.logits([pair for _, _, pairs in values for pair in pairs])
        ends = accumulate(len(pairs) for _, _, pairs in values)
        return [
            self._ranked(text, labels, logits[end - len(labels) : end], parameters)
            for (text, labels, _), end in zip(values, ends, strict=True)
        ]

    def _ranked(self, text: str, labels: list[str], logits: torch.Tensor, parameters: Parameters) -> dict[str, Any]:
        """`logits` [labels, 3]: each label against its contradiction, or all labels against each other."""
        if parameters.multi_label or len(labels) == 1:
            scores = logits[:, [self._against, self._entailment]].softmax(-1)[:, 1]
        else:
            scores = logits[:, self._entailment].softmax(0)
        ranked = sorted(zip(scores.tolist(), labels, strict=True), key=lambda pair: -pair[0])
        return {"sequence": text, "labels": [label for _, label in ranked], "scores": [score for score, _ in ranked]}


def _labels(given: Any, place: str) -> list[str]:
    good = isinstance(given, list) and 0 < len(given) <= MAX_LABELS and all(isinstance(x, str) and x for x in given)
    if not good:
        raise InputRejected(f"Invalid {place}: 1 to {MAX_LABELS} texts are expected.")
    return list(given)
