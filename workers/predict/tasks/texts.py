"""What tasks over texts share: tokens within the model's limit, and padding that changes no result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import AutoTokenizer

from workers.predict.catalog import PredictModel
from workers.predict.parameters import Parameters
from workers.predict.suiting import ALONE
from workers.predict.tasks.loading import load_network, load_part
from workers.predict.tasks.task import Prepared, Task
from workers.runtime.runner import InputRejected

MAX_TOKENS = 8192  # of a model that says nothing of a limit
TOGETHER = 32  # sequences that go through the network at once


class TextTask(Task):
    """`Auto` and `may_lack` are what `load_network` is given."""

    auto: Any
    may_lack: tuple[str, ...] = ()

    def __init__(self, model: PredictModel, device: str) -> None:
        self.device = device
        self.tokenizer = load_part(AutoTokenizer, model)
        self.network = load_network(self.auto, model, device, self.may_lack)
        self.limit = token_limit(self.tokenizer, self.network.config)
        self.batches = self.tokenizer.pad_token_id is not None and model.task not in ALONE

    def tokens(self, text: Any, parameters: Parameters, place: str, pair: str | None = None) -> Prepared:
        """The ids of one text, or of a pair; raises InputRejected if it is no text, or too long and not to be cut."""
        if not isinstance(text, str):
            raise InputRejected(f"Invalid {place}: this model takes a text.")
        found = self.tokenizer(text, pair)
        count = len(found["input_ids"])
        if count <= self.limit:
            return Prepared(dict(found))
        if not parameters.truncation:
            raise InputRejected(
                f"Invalid {place}: {count} tokens, and the model takes at most {self.limit}; shorten it, or let "
                "parameters.truncation cut it."
            )
        cut = "only_first" if pair else True
        return Prepared(dict(self.tokenizer(text, pair, truncation=cut, max_length=self.limit)), truncated=True)

    def padded(self, encodings: Sequence[dict[str, Any]]) -> Iterator[dict[str, torch.Tensor]]:
        """The encodings as tensors [N, tokens] on the device, in groups, with the mask that hides the padding."""
        size = TOGETHER if self.batches else 1
        for start in range(0, len(encodings), size):
            group = list(encodings[start : start + size])
            if len(group) == 1:
                found = {name: torch.tensor([ids]) for name, ids in group[0].items()}
            else:
                found = dict(self.tokenizer.pad(group, padding=True, return_tensors="pt"))
            yield {name: tensor.to(self.device) for name, tensor in found.items()}

    def logits(self, encodings: Sequence[dict[str, Any]]) -> torch.Tensor:
        """[N, labels] in float32 on the CPU."""
        parts = [self.network(**group).logits.float().cpu() for group in self.padded(encodings)]
        return torch.cat(parts)


def token_limit(tokenizer: Any, config: Any) -> int:
    """The longest sequence that the model takes, by its positions and its tokenizer."""
    positions = getattr(config, "max_position_embeddings", None) or MAX_TOKENS
    if "roberta" in str(config.model_type) or config.model_type == "camembert":
        positions -= (config.pad_token_id or 0) + 1  # the first ones are the padding's
    return int(min(positions, tokenizer.model_max_length))
