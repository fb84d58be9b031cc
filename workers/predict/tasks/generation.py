"""What tasks that write token by token share: progress and stopping at each token."""

from __future__ import annotations

from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from workers.predict.parameters import Parameters
from workers.predict.tasks.task import OnStep

NEW_TOKENS = 64  # unless max_new_tokens says otherwise


class EveryToken(StoppingCriteria):
    """Tells each new token; what `on_step` raises ends the writing."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step, self._done = on_step, 0

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self._done += 1
        self._on_step(self._done)
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def new_tokens(parameters: Parameters) -> int:
    """How many tokens may be written."""
    return parameters.max_new_tokens or NEW_TOKENS


def write(network: Any, encoding: dict[str, list[int]], parameters: Parameters, on_step: OnStep) -> list[int]:
    """The ids that `generate` returns for one input.

    The folder's own generation_config.json gives special tokens only: how to write is the request's to say.
    """
    sampled: dict[str, Any] = {"do_sample": False, "temperature": None, "top_k": None, "top_p": None}
    if parameters.temperature is not None:
        named = {
            "temperature": parameters.temperature,
            "top_k": parameters.top_k or 50,
            "top_p": parameters.top_p or 1.0,
        }
        sampled = {"do_sample": True, **named}
    device = network.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(parameters.seed or 0)  # read by sampling alone
        written = network.generate(
            **{name: torch.tensor([ids], device=device) for name, ids in encoding.items()},
            **sampled,
            max_new_tokens=new_tokens(parameters),
            min_new_tokens=None,
            max_length=None,
            min_length=0,
            num_beams=parameters.num_beams or 1,
            repetition_penalty=parameters.repetition_penalty or 1.0,
            stopping_criteria=StoppingCriteriaList([EveryToken(on_step)]),
        )
    ids: list[int] = written[0].tolist()
    return ids
