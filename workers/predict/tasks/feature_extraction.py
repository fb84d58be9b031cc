"""Texts → vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F
from transformers import AutoModel

from workers.predict.parameters import Parameters
from workers.predict.tasks.task import OnStep, Prepared
from workers.predict.tasks.texts import TextTask


class FeatureExtraction(TextTask):
    """One vector a text: the mean of its tokens' last hidden states, or the first token's."""

    auto = AutoModel
    may_lack = ("pooler.",)  # which many checkpoints were saved without, and nothing here uses

    def prepare(self, item: Any, parameters: Parameters, place: str) -> Prepared:
        return self.tokens(item, parameters, place)

    def compute(self, values: Sequence[Any], parameters: Parameters, on_step: OnStep) -> list[Any]:
        found = []
        for group in self.padded(values):
            hidden = self.network(**group).last_hidden_state.float()  # [N, tokens, width]
            if parameters.pooling == "cls":
                vectors = hidden[:, 0]
            else:
                mask = group["attention_mask"][..., None]
                vectors = (hidden * mask).sum(1) / mask.sum(1)
            found.append(F.normalize(vectors) if parameters.normalize else vectors)
        vectors = torch.cat(found)
        return list(vectors.tolist())
