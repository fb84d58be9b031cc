"""A classifier's scores as labels, likeliest first."""

from __future__ import annotations

from typing import Any

import torch

TOLD = 5  # labels, unless top_k says otherwise


def best_labels(logits: torch.Tensor, config: Any, top_k: int | None) -> list[list[dict[str, Any]]]:
    """[N, labels] → the likeliest labels of each, with scores: probabilities, or a regression's values as they are.

    Labels that exclude each other share a softmax; where each stands for itself it has a sigmoid of its own.
    """
    if config.problem_type == "regression":
        scores = logits
    elif config.problem_type == "multi_label_classification" or config.num_labels == 1:
        scores = logits.sigmoid()
    else:
        scores = logits.softmax(-1)
    best, places = scores.topk(min(top_k or TOLD, scores.shape[-1]))
    return [
        [{"label": config.id2label[n], "score": score} for n, score in zip(numbers, values, strict=True)]
        for numbers, values in zip(places.tolist(), best.tolist(), strict=True)
    ]
