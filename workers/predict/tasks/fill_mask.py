"""Texts with a gap → the words that fit it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForMaskedLM

from workers.predict.catalog import PredictModel
from workers.predict.parameters import Parameters
from workers.predict.tasks.labels import TOLD
from workers.predict.tasks.task import OnStep, Prepared
from workers.predict.tasks.texts import TextTask
from workers.runtime.runner import InputRejected, ModelMissing


class FillMask(TextTask):
    """`[{token, token_str, score, sequence}, …]`, best first."""

    auto = AutoModelForMaskedLM

    def __init__(self, model: PredictModel, device: str) -> None:
        super().__init__(model, device)
        if self.tokenizer.mask_token_id is None:
            raise ModelMissing(f"Model '{model.name}' has a tokenizer without a mask.")

    def prepare(self, item: Any, parameters: Parameters, place: str) -> Prepared:
        prepared = self.tokens(item, parameters, place)
        if prepared.value["input_ids"].count(self.tokenizer.mask_token_id) != 1:
            cut = " after it was cut" if prepared.truncated else ""
            raise InputRejected(f"Invalid {place}: the text must hold {self.tokenizer.mask_token} once{cut}.")
        return prepared

    def compute(self, values: Sequence[Any], parameters: Parameters, on_step: OnStep) -> list[Any]:
        found: list[Any] = []
        for group in self.padded(values):
            logits = self.network(**group).logits.float()  # [N, tokens, words]
            gaps = group["input_ids"] == self.tokenizer.mask_token_id
            scores = logits[gaps].softmax(-1)
            found += [self._words(*row, parameters) for row in zip(scores, group["input_ids"], gaps, strict=True)]
        return found

    def _words(
        self, scores: torch.Tensor, ids: torch.Tensor, gap: torch.Tensor, parameters: Parameters
    ) -> list[dict[str, Any]]:
        best, words = scores.topk(min(parameters.top_k or TOLD, len(scores)))
        return [
            {
                "token": word,
                "token_str": self.tokenizer.decode([word]).strip(),
                "score": score,
                "sequence": self.tokenizer.decode(torch.where(gap, word, ids), skip_special_tokens=True),
            }
            for word, score in zip(words.tolist(), best.tolist(), strict=True)
        ]
